// Keeps an open page up to date: what is other in the parts that the server sends is changed, and times become ages. Without it the page is
// whole too.
'use strict';

(() => {
  // How soon it is said that nothing comes, and how often somebody asks who was refused, in milliseconds.
  const SILENT = 5000;
  const FIRST = 2000;
  const MOST = 60000;

  const say = document.getElementById('live');
  const address = document.body.dataset.live;

  const state = (text, name) => {
    if (!say || say.textContent === text) return;
    say.hidden = false;
    say.textContent = text;
    say.dataset.state = name;
  };

  // What somebody presses or has selected stays as it is until they are done with it.
  let pressed = null;
  const selected = () => {
    const selection = document.getSelection();
    const range = selection?.rangeCount ? selection.getRangeAt(0) : null;
    return range && !range.collapsed ? range : null;
  };
  const isHeld = (node) => (pressed && node.contains(pressed)) || selected()?.intersectsNode(node) || false;
  // The smallest things with a name that have all of it.
  const held = () =>
    [pressed, selected()?.commonAncestorContainer]
      .filter(Boolean)
      .map((node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement)?.closest('[id]') ?? document.body);

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

  // How far the server's clock is ahead of the browser's, in milliseconds.
  let ahead = (Number(document.body.dataset.now) || Date.now()) - Date.now();

  const tellTimes = (root) => {
    for (const time of root.querySelectorAll('time[datetime]')) {
      const then = Date.parse(time.dateTime);
      if (Number.isNaN(then)) continue;
      const since = (Date.now() + ahead - then) / 1000;
      const text = 'toCome' in time.dataset ? `in ${age(-since)}` : `${age(since)} ago`;
      if (time.textContent !== text && !isHeld(time)) time.textContent = text;
    }
  };

  // By what an element is found again: its id, where it leads, or where the first link of a row does.
  const key = (node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return '';
    const link = node.nodeName === 'TR' ? node.querySelector('a[href]') : node;
    return node.id || link?.getAttribute('href') || '';
  };
  const isSame = (one, other) => one.nodeName === other.nodeName && key(one) === key(other);

  // Makes the one as the other is, and touches only what differs; elements of `kept` stay as they are.
  const change = (old, fresh, kept) => {
    if (kept.includes(old)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of Array.from(old.attributes)) {
      // What somebody has unfolded stays so.
      if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
    }
    changeContent(old, fresh, kept);
  };

  const changeContent = (old, fresh, kept) => {
    let at = old.firstChild;
    for (const child of Array.from(fresh.childNodes)) {
      let same = at;
      while (same && !isSame(same, child)) same = same.nextSibling;
      if (!same) {
        old.insertBefore(child, at);
        continue;
      }
      // What is in between comes later or not at all.
      while (at !== same) {
        const next = at.nextSibling;
        old.append(at);
        at = next;
      }
      change(same, child, kept);
      at = same.nextSibling;
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  // Parts of which something was held when they came.
  const late = new Map();

  const put = (id, html) => {
    const part = document.getElementById(id);
    if (!part || !('part' in part.dataset)) return;
    const fresh = document.createElement('template');
    fresh.innerHTML = html;
    tellTimes(fresh.content);
    const kept = held().filter((element) => element !== part && part.contains(element));
    const isWhole = held().some((element) => element.contains(part)) && isHeld(part);
    late.delete(id);
    if (isWhole || kept.length) late.set(id, html);
    if (isWhole || kept.some((element) => !fresh.content.getElementById(element.id))) return;
    const focus = document.activeElement;
    changeContent(part, fresh.content, kept);
    // One that was moved has lost it.
    if (focus?.isConnected && document.activeElement !== focus) focus.focus({ preventScroll: true });
  };

  const catchUp = () => {
    if (!late.size || pressed || selected()) return;
    for (const [id, html] of Array.from(late)) put(id, html);
    if (say?.dataset.state === 'on') state('live', 'on');
  };

  let events = null;
  let asking = null;
  let again = 0;
  let silent = 0;
  let wait = FIRST;

  const close = () => {
    events?.close();
    asking?.abort();
    window.clearTimeout(again);
    window.clearTimeout(silent);
    silent = 0;
  };

  const heard = () => {
    window.clearTimeout(silent);
    silent = 0;
    wait = FIRST;
    state(late.size && selected() ? 'live, but for what is selected' : 'live', 'on');
  };

  const missing = () => {
    silent ||= window.setTimeout(() => state('not connected, trying again', 'off'), SILENT);
  };

  const listen = () => {
    close();
    // A page that nobody sees needs none of the few connections that a browser has for a host.
    if (document.hidden) return;
    missing();
    const own = new EventSource(address);
    events = own;
    own.addEventListener('hello', (event) => {
      const { release, now } = JSON.parse(event.data);
      // The daemon was upgraded: this page is the old one's.
      if (release !== document.body.dataset.release) window.location.reload();
      ahead = now - Date.now();
      tellTimes(document);
      heard();
    });
    own.addEventListener('part', (event) => {
      const { id, html } = JSON.parse(event.data);
      put(id, html);
      heard();
    });
    own.addEventListener('error', () => {
      missing();
      if (own.readyState === EventSource.CLOSED) askLater();
    });
  };

  // The server has refused: the session may be over, or too many pages are open, or a proxy has no server.
  const askLater = () => {
    again = window.setTimeout(ask, wait * (0.5 + Math.random() / 2));
    wait = Math.min(wait * 2, MOST);
  };

  const ask = () => {
    asking = new AbortController();
    fetch(address, { method: 'HEAD', cache: 'no-store', signal: asking.signal })
      .then((answer) => {
        if (answer.status === 401) window.location.reload();
        else if (answer.ok) listen();
        else askLater();
      })
      .catch((error) => {
        if (error.name !== 'AbortError') askLater();
      });
  };

  tellTimes(document);
  window.setInterval(() => tellTimes(document), 1000);
  if (address) {
    state('connecting', 'off');
    const release = () => window.setTimeout(() => { pressed = null; catchUp(); });
    document.addEventListener('pointerdown', (event) => { pressed = event.target; });
    for (const name of ['pointerup', 'pointercancel', 'blur']) window.addEventListener(name, release);
    document.addEventListener('selectionchange', catchUp);
    document.addEventListener('visibilitychange', () => (document.hidden ? close() : listen()));
    listen();
  }
})();
