"use strict";
// Sort a table by the column whose header is clicked: better values first, cells without a number always last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const first = head.dataset.better === "higher" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => head.dataset.kind === "text" ? row.cells[0].textContent.trim() : Number(row.cells[column].dataset.value ?? NaN);
    const compare = (a, b) => {
      const [one, two] = [key(a), key(b)];
      if (typeof one === "string") return sign * one.localeCompare(two, undefined, { numeric: true });
      return Number.isNaN(one) - Number.isNaN(two) || sign * (one - two) || 0;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
// The bar at the top shows which chapter is being read.
for (const bar of document.querySelectorAll(".bar")) {
  const links = new Map([...bar.querySelectorAll("a")].map((link) => [document.querySelector(link.getAttribute("href")), link]));
  const mark = () => {
    const read = [...links.keys()].filter((head) => head.getBoundingClientRect().top < bar.offsetHeight + 40).at(-1);
    links.forEach((link, head) => link.toggleAttribute("aria-current", head === read));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}
// A printed page shows everything.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
