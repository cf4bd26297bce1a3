for (const button of document.querySelectorAll('th button')) button.addEventListener('click', () => {
  const head = button.parentElement, table = head.closest('table'), body = table.tBodies[0];
  const column = head.cellIndex, up = head.getAttribute('aria-sort') !== 'ascending';
  for (const other of table.tHead.rows[0].cells) if (other.hasAttribute('aria-sort')) other.setAttribute('aria-sort', 'none');
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const key = row => row.cells[column].textContent.trim();
  const number = head.classList.contains('number');
  const value = text => { const found = parseFloat(text); return Number.isNaN(found) ? -Infinity : found; };
  const order = (a, b) => number ? value(a) - value(b) : a.localeCompare(b);
  [...body.rows].sort((a, b) => (up ? 1 : -1) * order(key(a), key(b))).forEach(row => body.append(row));
});
