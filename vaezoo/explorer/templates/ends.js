// The two images, A and B, that go through every model: chosen from the test images, drawn, or from a file.

class Ends {
  constructor(test, cards, changed) {
    Object.assign(this, { test, cards, changed });
    this.buttons = test.map((image, at) => this.button(image, at));
    byId("strip").append(...this.buttons);
    const { pen } = PAGE.images;
    byId("own-hint").textContent = pen ? "Draw one, or drop an image file anywhere on the page." : "Drop an image file anywhere on the page.";
    byId("pad").hidden = byId("clear").hidden = !pen;
    if (pen) {
      const pad = new DrawingPad(byId("pad"), pen, (image) => this.set(this.chosen(), image, -1));
      byId("clear").addEventListener("click", () => pad.clear());
    }
    this.listenForFiles();
  }

  chosen() {
    return document.querySelector("[name=end]:checked").value;
  }

  button(image, at) {
    const label = PAGE.images.test_label[at];
    const name = label >= 0 ? `test image ${at + 1}, ${nameOf(label)}` : `test image ${at + 1}`;
    const canvas = imageCanvas(name, "");
    paint(canvas, image);
    const button = element("button", { title: name }, canvas);
    button.addEventListener("click", (event) => {
      const which = this.chosen();
      this.set(event.shiftKey ? (which === "a" ? "b" : "a") : which, image, label);
    });
    return button;
  }

  listenForFiles() {
    byId("choose-file").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", () => this.take(byId("file").files[0]));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      this.take(event.dataTransfer.files[0]);
    });
  }

  async take(file) {
    if (!file) return;
    try {
      const image = imageOfPicture(await createImageBitmap(file), PAGE.images.pen);
      byId("state").hidden = true;
      await this.set(this.chosen(), image, -1);
    } catch {
      byId("state").hidden = false;
      byId("state").textContent = `${file.name} is not an image that this browser can read; choose a PNG or JPEG file.`;
    }
  }

  // label is -1 if it is not known.
  async set(which, image, label) {
    this[which] = image;
    paint(byId(`image-${which}`), image);
    byId(`image-${which}`).setAttribute("aria-label", `image ${which.toUpperCase()}${label >= 0 ? `, ${nameOf(label)}` : ""}`);
    this.buttons.forEach((button, at) => {
      button.classList.toggle(`is-${which}`, this.test[at] === image);
      button.setAttribute("aria-label", [button.title, ...["a", "b"].filter((end) => this[end] === this.test[at])].join(", "));
    });
    await Promise.all(this.cards.map((card) => card.setEnd(which, image, label)));
    this.changed(which);
  }

  // The first test images, with different labels if there are any.
  async start() {
    const labels = PAGE.images.test_label;
    const other = labels.findIndex((label, at) => at > 0 && label !== labels[0]);
    const second = other > 0 ? other : Math.min(1, this.test.length - 1);
    await this.set("b", this.test[second], labels[second]);
    await this.set("a", this.test[0], labels[0]);
  }
}
