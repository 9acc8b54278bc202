'use strict';
(() => {
  const $ = (id) => document.getElementById(id);
  document.documentElement.classList.add('js');

  // Search: every word must be somewhere in the row.
  const rows = [...document.querySelectorAll('#files tbody tr')];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const input = $('q');
  const shown = $('shown');
  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, i) => {
      const hit = words.every((word) => texts[i].includes(word));
      row.hidden = !hit;
      count += hit;
    });
    shown.textContent = words.length ? `${count} of ${rows.length}` : '';
    const hash = words.length ? '#q=' + encodeURIComponent(input.value.trim()) : location.pathname;
    if (location.hash.startsWith('#q=') || words.length) history.replaceState(null, '', hash);
  };
  let timer;
  input.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(search, 80);
  });
  const find = (text) => {
    input.value = text;
    search();
  };

  // A cell of a map shows its files.
  for (const map of document.querySelectorAll('svg.map')) {
    map.addEventListener('click', (event) => {
      const cell = event.target.closest('[data-find]');
      if (!cell) return;
      find(cell.dataset.find);
      $('files').scrollIntoView();
    });
  }

  // Two maps, one at a time.
  for (const button of document.querySelectorAll('[data-map]')) {
    button.addEventListener('click', () => {
      for (const other of document.querySelectorAll('[data-map]')) {
        const on = other === button;
        other.setAttribute('aria-pressed', on);
        $(other.dataset.map).hidden = !on;
      }
    });
  }
  $('by-package').hidden = true;

  // Tables are sorted by a click on a heading, and once more the other way.
  for (const head of document.querySelectorAll('th')) {
    const button = head.querySelector('button');
    if (!button) continue;
    button.addEventListener('click', () => {
      const body = head.closest('table').tBodies[0];
      const down = head.getAttribute('aria-sort') === 'ascending' ||
        (head.dataset.number !== undefined && head.getAttribute('aria-sort') !== 'descending');
      const value = (row) => {
        const cell = row.cells[head.cellIndex];
        return head.dataset.number === undefined ? cell.textContent : Number(cell.dataset.value || 0);
      };
      const keyed = [...body.rows].map((row) => [value(row), row]);
      keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
      for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      body.append(...keyed.map(([, row]) => row));
    });
  }

  const wanted = () => {
    if (!location.hash.startsWith('#q=')) return;
    try {
      find(decodeURIComponent(location.hash.slice(3)));
    } catch {
      // Not one of ours.
    }
  };
  addEventListener('hashchange', wanted);
  wanted();
})();
