// The indices of a discrete code on their grids. A click on a position offers other codes there, with what each decodes to.

const OFFERED = 11;

class IndexMap {
  constructor(name, content, networks, go) {
    Object.assign(this, { content, networks, go });
    this.name = name;
    this.cells = [];
    const grids = content.books.map((book) => this.grid(book));
    const small = content.books.every((book) => book.height * book.width === 1);
    this.picker = element("div", { className: "picker", hidden: true, attributes: { role: "group" } });
    this.root = element("div", { className: "indices" }, element("div", { className: small ? "grids small" : "grids" }, ...grids), this.picker);
  }

  grid(book) {
    const cells = Array.from({ length: book.height * book.width }, (_, position) => {
      const cell = element("button", { className: "cell" });
      cell.addEventListener("click", () => this.offer(book, position, cell));
      this.cells.push({ book, position, cell, place: book.start + position * book.step });
      return cell;
    });
    const table = element("div", { className: "grid" }, ...cells);
    table.style.gridTemplateColumns = `repeat(${book.width}, 1fr)`;
    table.addEventListener("keydown", (event) => this.step(event, cells, book.width));
    const title = cells.length > 1 ? book.name.replaceAll("_", " level ").replace(/^(\d)/, "level $1") : book.name;
    return element("div", {}, ...(title ? [element("p", { className: "faint" }, title)] : []), table);
  }

  step(event, cells, width) {
    const offset = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[event.key];
    const next = cells[cells.indexOf(event.target) + offset];
    if (!offset || !next) return;
    event.preventDefault();
    next.focus();
  }

  show(indices) {
    this.indices = indices;
    for (const { book, position, cell, place } of this.cells) {
      const index = indices[place];
      if (cell.textContent === String(index)) continue;
      if (!this.picker.hidden) this.close(); // what it offers is decoded with the other indices
      cell.textContent = index;
      cell.style.background = colourOfIndex(index);
      const where = `row ${Math.floor(position / book.width) + 1}, column ${(position % book.width) + 1}`;
      cell.setAttribute("aria-label", `${book.name} ${where}: code ${index} of ${book.size}; press to change it`);
    }
  }

  // Codes that training images have most often, and the present one first.
  async offer(book, position, cell) {
    const place = book.start + position * book.step;
    const present = this.indices[place];
    const others = book.common.filter((index) => index !== present).slice(0, OFFERED);
    const candidates = [present, ...others];
    const indices = new Int32Array(candidates.length * this.indices.length);
    candidates.forEach((index, at) => {
      indices.set(this.indices, at * this.indices.length);
      indices[at * this.indices.length + place] = index;
    });
    const pixels = await this.networks.decodeIndices(indices, candidates.length);
    const size = this.indices.length;
    const choices = candidates.map((index, at) => this.choice(index, indices.slice(at * size, (at + 1) * size), pixels, at, cell));
    for (const other of this.cells) other.cell.classList.toggle("chosen", other.cell === cell);
    this.picker.setAttribute("aria-label", `Other codes at this position of ${this.name}`);
    this.picker.replaceChildren(...choices);
    this.picker.hidden = false;
    choices[0].focus({ preventScroll: true });
  }

  choice(index, indices, pixels, at, cell) {
    const canvas = imageCanvas(`decoded with code ${index} here`, "neighbour");
    paint(canvas, pixels, at * PIXELS);
    const button = element("button", { title: `code ${index}` }, canvas, element("small", {}, String(index)));
    button.addEventListener("click", (event) => {
      this.go(indices, event.timeStamp);
      this.close();
      cell.focus({ preventScroll: true });
    });
    button.addEventListener("keydown", (event) => { if (event.key === "Escape") { this.close(); cell.focus(); } });
    return button;
  }

  close() {
    this.picker.hidden = true;
    for (const { cell } of this.cells) cell.classList.remove("chosen");
  }
}

// Neighbouring indices have nothing in common, so their hues are far apart.
function colourOfIndex(index) {
  return `hsl(${(index * 137.508) % 360} 62% ${68 + 12 * ((index * 0.618) % 1)}%)`;
}
