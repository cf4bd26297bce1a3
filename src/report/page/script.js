// Tables: a click on a heading sorts by its column; cells without a number come last.
for (const button of document.querySelectorAll('th button')) button.addEventListener('click', () => {
  const head = button.parentElement, table = head.closest('table'), column = head.cellIndex;
  const up = head.getAttribute('aria-sort') !== 'ascending', number = head.classList.contains('number');
  for (const other of table.tHead.rows[0].cells) other.setAttribute('aria-sort', 'none');
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const key = row => { const text = row.cells[column].textContent; return number ? parseFloat(text.replace(/^[^\d+-]+/, '')) : text; };
  const order = (a, b) => number ? Number.isNaN(a) - Number.isNaN(b) || (up ? a - b : b - a) : (up ? 1 : -1) * a.localeCompare(b, undefined, {numeric: true});
  [...table.tBodies[0].rows].sort((a, b) => order(key(a), key(b))).forEach(row => table.tBodies[0].append(row));
});
// Figures: show the value under the pointer or finger at once, not after the delay of a title.
const tip = document.getElementById('tip'), values = new Map();
for (const title of document.querySelectorAll('.picture title')) { values.set(title.parentNode, title.textContent); title.remove(); }
for (const kind of ['pointerover', 'pointerdown']) document.addEventListener(kind, event => {
  tip.textContent = values.get(event.target) ?? '';
  tip.style.left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8) + 'px';
  tip.style.top = Math.max(event.clientY - tip.offsetHeight - 10, 4) + 'px';
});
// Print everything unfolded.
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(part => part.open = true));
// A link to a folded section opens it.
for (const link of document.querySelectorAll('a[href^="#"]')) link.addEventListener('click', () => {
  const fold = document.querySelector(link.hash).closest('details');
  if (fold) fold.open = true;
});
