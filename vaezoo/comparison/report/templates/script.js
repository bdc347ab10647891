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
// Models are highlighted by pointing at them, or for good by a click, and hidden by their boxes and the filter.
for (const group of document.querySelectorAll(".group")) {
  const rules = document.createElement("style");
  group.prepend(rules);
  const hidden = new Set();
  let pinned = null;
  const names = [...group.querySelectorAll(".model")];
  const apply = (pointed) => {
    const shown = pointed ?? pinned;
    const at = `#${CSS.escape(group.id)}`;
    rules.textContent = [...hidden].map((index) => `${at} [data-model="${index}"], ${at} .s.s${index} { display: none; }`).join("\n")
      + (shown === null ? "" : `\n${at} svg .s:not(.s${shown}) { opacity: 0.08; }\n${at} tr[data-model="${shown}"] > * { background: var(--soft); }`);
    names.forEach((name) => {
      name.setAttribute("aria-pressed", String(name.dataset.pick === pinned));
      const box = name.querySelector("input");
      if (box) box.checked = !hidden.has(name.dataset.pick);
    });
  };
  const show = (indices, wanted) => { indices.forEach((index) => wanted ? hidden.delete(index) : hidden.add(index)); apply(null); };
  for (const name of names) {
    const index = name.dataset.pick;
    const pin = () => { pinned = pinned === index ? null : index; apply(null); };
    name.addEventListener("click", (event) => event.target.matches("input") ? show([index], event.target.checked) : pin());
    name.addEventListener("keydown", (event) => { if (event.target === name && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); pin(); } });
    name.addEventListener("pointerenter", () => apply(index));
    name.addEventListener("pointerleave", () => apply(null));
  }
  for (const row of group.querySelectorAll("tr[data-model]")) {
    row.addEventListener("pointerenter", () => apply(row.dataset.model));
    row.addEventListener("pointerleave", () => apply(null));
  }
  for (const box of group.querySelectorAll("[data-family]")) {
    box.addEventListener("change", () => show(box.dataset.family.split(" "), box.checked));
  }
  const filter = group.querySelector(".filter");
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    names.forEach((name) => {
      const fits = words.every((word) => name.textContent.toLowerCase().includes(word));
      name.hidden = !fits;
      fits ? hidden.delete(name.dataset.pick) : hidden.add(name.dataset.pick);
    });
    group.querySelectorAll(".family").forEach((family) => {
      family.hidden = !family.querySelector(".model:not([hidden])");
      family.open = words.length > 0;
    });
    apply(null);
  });
  group.querySelector(".all")?.addEventListener("click", () => {
    filter.value = "";
    [...names, ...group.querySelectorAll(".family")].forEach((each) => { each.hidden = false; });
    group.querySelectorAll("[data-family]").forEach((box) => { box.checked = true; });
    hidden.clear();
    apply(null);
  });
}
// What a mark or a line of a chart stands for is shown beside the pointer.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
addEventListener("pointerover", (event) => {
  const mark = event.target.closest?.("[data-tip]");
  tip.hidden = !mark;
  if (mark) tip.textContent = mark.dataset.tip;
});
addEventListener("pointermove", (event) => {
  if (tip.hidden) return;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
}, { passive: true });
