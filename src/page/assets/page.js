// Keeps an open page up to date: parts that the server sends replace the old ones; times become ages. Without it the page is whole too.
'use strict';

(() => {
  const say = document.getElementById('live');

  const state = (text, name) => {
    if (!say || say.textContent === text) return;
    say.hidden = false;
    say.textContent = text;
    say.dataset.state = name;
  };

  // As src/words.rs says it.
  const age = (seconds) => {
    const s = Math.max(0, Math.floor(seconds));
    const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(s / unit));
    const rest = (count, unit) => (count ? ` ${count}${unit}` : '');
    if (days >= 30) return `${days}days`;
    if (days) return `${days}day${days === 1 ? '' : 's'}${rest(hours % 24, 'h')}`;
    if (hours) return `${hours}h${rest(minutes % 60, 'm')}`;
    if (minutes) return `${minutes}m${rest(s % 60, 's')}`;
    return `${s}s`;
  };

  const tellAges = (root) => {
    for (const time of root.querySelectorAll('time[datetime]')) {
      const then = Date.parse(time.dateTime);
      if (Number.isNaN(then)) continue;
      const text = `${age((Date.now() - then) / 1000)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // What has the focus in a part, so that it can have it again in the new one.
  const focusIn = (part) => {
    const focus = document.activeElement;
    if (!focus || !part.contains(focus) || focus === part) return null;
    const href = focus.getAttribute('href');
    const same = href ? `a[href="${CSS.escape(href)}"]` : focus.id ? `#${CSS.escape(focus.id)}` : focus.tagName.toLowerCase();
    const index = Array.from(part.querySelectorAll(same)).indexOf(focus);
    return { same, index };
  };

  const replace = (id, html) => {
    const part = document.getElementById(id);
    if (!part || !('part' in part.dataset)) return;
    const focus = focusIn(part);
    const open = Array.from(part.querySelectorAll('details[open][id]'), (element) => element.id);
    const scrolled = Array.from(part.querySelectorAll('.scroll'), (element) => [element.scrollLeft, element.scrollTop]);
    part.innerHTML = html;
    tellAges(part);
    for (const name of open) document.getElementById(name)?.setAttribute('open', '');
    part.querySelectorAll('.scroll').forEach((element, index) => {
      if (scrolled[index]) [element.scrollLeft, element.scrollTop] = scrolled[index];
    });
    if (focus) part.querySelectorAll(focus.same)[Math.max(0, focus.index)]?.focus({ preventScroll: true });
  };

  const listen = () => {
    const events = new EventSource(document.body.dataset.live);
    events.addEventListener('hello', (event) => {
      // The daemon was upgraded: this page is the old one's.
      if (event.data !== document.body.dataset.release) window.location.reload();
      state('live', 'on');
    });
    events.addEventListener('parts', (event) => {
      for (const { id, html } of JSON.parse(event.data)) replace(id, html);
      state('live', 'on');
    });
    events.addEventListener('error', () => {
      state('not connected, trying again', 'off');
      if (events.readyState !== EventSource.CLOSED) return;
      // The server has refused: the session may be over, or too many pages are open.
      events.close();
      window.setTimeout(() => {
        fetch(window.location.href, { redirect: 'manual', cache: 'no-store' })
          .then((answer) => { if (answer.type === 'opaqueredirect') window.location.reload(); else listen(); })
          .catch(listen);
      }, 5000);
    });
  };

  tellAges(document);
  window.setInterval(() => tellAges(document), 1000);
  if (document.body.dataset.live) {
    state('connecting', 'off');
    listen();
  }
})();
