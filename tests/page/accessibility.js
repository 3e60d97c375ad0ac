// What is wrong with the page for people who use a keyboard, a screen reader or large contrast: a list of texts.
const wrong = [];
// Colours are looked at as they stay.
document.getAnimations().forEach((animation) => animation.finish());
const say = (what, element) => wrong.push(`${what}: ${element.outerHTML.slice(0, 140)}`);
const all = (css, root = document) => Array.from(root.querySelectorAll(css));
const isShown = (element) => element.checkVisibility({ checkVisibilityCSS: true });

// Document and landmarks.
if (!document.documentElement.lang) wrong.push('the document has no language');
if (!document.title.trim()) wrong.push('the document has no title');
for (const [name, css] of [['main', 'main'], ['first heading', 'h1']]) {
  if (all(css).length !== 1) wrong.push(`there are ${all(css).length} of ${name}`);
}
const outside = all('body > *').filter((element) => !element.matches('header, main, footer, nav, .skip'));
outside.forEach((element) => say('it is in no landmark', element));
all('nav').forEach((element) => element.getAttribute('aria-label') || say('a navigation without a name', element));
const skip = document.querySelector('a');
if (!skip.hash || !document.querySelector(skip.hash)) say('the first link skips to nothing', skip);

// Headings, in order and with content.
let level = 0;
for (const heading of all('h1, h2, h3, h4, h5, h6')) {
  const own = Number(heading.tagName[1]);
  if (own > level + 1) say(`a heading skips from level ${level}`, heading);
  if (!heading.textContent.trim()) say('an empty heading', heading);
  level = own;
}

// Names, roles, references.
const nameOf = (element) => {
  const label = element.getAttribute('aria-label');
  if (label) return label;
  const by = element.getAttribute('aria-labelledby');
  if (by) return by.split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join(' ');
  if (element.labels?.length) return Array.from(element.labels, (one) => one.textContent).join(' ');
  const images = all('img', element).map((image) => image.alt).join(' ');
  return `${element.textContent} ${images}`.trim();
};
all('a[href], button, input:not([type=hidden]), select, [role=img], [role=region], [role=group], [role=search]')
  .filter((element) => element.getAttribute('role') !== 'search')
  .forEach((element) => nameOf(element).trim() || say('it has no name', element));
all('img').forEach((image) => image.hasAttribute('alt') || say('an image without alt', image));
all('svg').forEach((svg) => svg.closest('[aria-hidden=true]') || svg.hasAttribute('aria-label') || say('a picture without a name', svg));
const ids = all('[id]').map((element) => element.id);
ids.filter((id, index) => ids.indexOf(id) !== index).forEach((id) => wrong.push(`the id ${id} is there twice`));
all('[tabindex]').forEach((element) => element.tabIndex > 0 && say('an order of its own', element));
all('[aria-hidden=true] a, [aria-hidden=true] button, [aria-hidden=true] [tabindex]').forEach((element) => say('hidden, and can have the focus', element));
all('a[target=_blank]').forEach((element) => say('it opens a window', element));

// Tables and lists.
for (const table of all('table')) {
  if (!table.caption?.textContent.trim()) say('a table without a caption', table);
  all('th', table).forEach((head) => ['col', 'row', 'rowgroup', 'colgroup'].includes(head.scope) || say('a head without a scope', head));
  const columns = all('thead th', table).length;
  all('tbody tr', table).forEach((row) => row.cells.length === columns || say(`a row without ${columns} cells`, row));
}
all('ul > *, ol > *').forEach((element) => element.tagName === 'LI' || say('a list has something else in it', element));
all('dl > *').forEach((element) => element.tagName === 'DIV' || element.tagName === 'DT' || element.tagName === 'DD' || say('a list has something else in it', element));

// What scrolls can be scrolled by keyboard.
for (const element of all('body *')) {
  const style = getComputedStyle(element);
  const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY) && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
  if (scrolls && element.tabIndex < 0) say('it scrolls, and has no place in the order of the keyboard', element);
}

// Contrast of each text with what is behind it.
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const colour = (text) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  return Array.from(canvas.getImageData(0, 0, 1, 1).data);
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const contrast = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const behind = (element) => {
  if (element.closest('svg')) {
    const own = element.classList.contains('sign') ? element.parentElement.querySelector('.bar') : element.parentElement.querySelector('rect.box');
    if (own) return colour(getComputedStyle(own).fill);
  }
  for (let at = element; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found[3] === 255) return found;
  }
  return colour('Canvas');
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || element.closest('script, title, option') || !isShown(element)) continue;
  const style = getComputedStyle(element);
  const ratio = contrast(colour(element.closest('svg') ? style.fill : style.color), behind(element));
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (isLarge ? 3 : 4.5)) say(`contrast ${ratio.toFixed(2)} of "${walker.currentNode.textContent.trim().slice(0, 30)}"`, element);
}

// What pictures are made of stands out from what is behind it, and two things of a picture differ in more than their colour.
const draws = { '.plot .ground, .swatch .ground': 'fill', '.plot .line, .plot .limit, .graph .box': 'stroke' };
for (const [css, property] of Object.entries(draws)) {
  for (const element of all(css).filter(isShown)) {
    const ratio = contrast(colour(getComputedStyle(element)[property]), behind(element.closest('.scroll, li')));
    if (ratio < 3) say(`contrast ${ratio.toFixed(2)} of a piece`, element);
  }
}
for (const legend of all('.legend')) {
  const patterns = all('.swatch', legend).map((swatch) => swatch.querySelector('pattern path')?.getAttribute('d') ?? 'none');
  patterns.filter((lines, index) => patterns.indexOf(lines) !== index).forEach(() => say('two of its pieces have the same pattern', legend));
}
all('[fill^="url("]').forEach((element) => document.querySelector(element.getAttribute('fill').slice(4, -1)) || say('its pattern is not there', element));

// What is pressed is large enough (links in a sentence or a table excepted).
all('nav a, button, input, select').filter(isShown).forEach((element) => {
  const { width, height } = element.getBoundingClientRect();
  if (width < 24 || height < 24) say(`only ${width.toFixed(0)} by ${height.toFixed(0)} pixels`, element);
});
return wrong;
