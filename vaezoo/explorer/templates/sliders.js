// A slider for each direction of the code, by falling KL or variance; those that the model does not use are folded.

const STEPS = 400;

class Sliders {
  constructor(content, go) {
    Object.assign(this, { content, go });
    this.inputs = [];
    this.choices = content.categories.map((part, at) => this.choice(part, content.categories.length > 1 ? `category ${at + 1}` : "category"));
    const most = Math.max(1e-9, ...content.sliders.map((slider) => slider.size));
    const rows = (used) => content.sliders.filter((slider) => slider.used === used).map((slider) => this.row(slider, most));
    const [used, unused] = [rows(true), rows(false)];
    this.root = element("details", { className: "sliders", open: used.length <= 10 });
    this.root.append(element("summary", {}, this.title(used.length, unused.length)), ...this.choices.map(({ row }) => row), ...used);
    if (unused.length) {
      this.root.append(element("details", { className: "unused" }, element("summary", {}, `${unused.length} unused`), ...unused));
    }
  }

  title(used, unused) {
    const measure = this.content.unit === "nats" ? "KL in nats" : "variance of the codes";
    const kind = this.content.sliders[0]?.name.startsWith("channel") ? "channel" : "dimension";
    const all = `${used + unused} ${kind}${used + unused === 1 ? "" : "s"}`;
    const count = unused ? `${used} of ${all} in use` : all;
    return `${count}, by ${measure}`;
  }

  row(slider, most) {
    const { name, low, high, size, used } = slider;
    const measure = this.content.unit === "nats" ? `${size.toFixed(2)} nats` : `variance ${size.toPrecision(2)}`;
    const [from, to] = high > low ? [low, high] : [low - 1, high + 1];
    const input = element("input", {
      type: "range", min: 0, max: STEPS, step: 1,
      attributes: { "aria-label": `${name} of ${this.content.name}, ${measure}${used ? "" : ", unused"}` },
    });
    const value = element("output", {});
    input.addEventListener("input", (event) => this.move(slider, from + (input.value / STEPS) * (to - from), event.timeStamp));
    this.inputs.push({ slider, input, value, from, to });
    const bar = element("i", { className: "bar" });
    bar.style.width = `${(100 * size) / most}%`;
    const head = element("span", { className: "whose", title: measure }, name, bar);
    return element("div", { className: "slider" }, head, input, value);
  }

  // Of a part of the code that is a one-hot vector.
  choice([start, stop], name) {
    const options = Array.from({ length: stop - start }, (_, value) => element("option", { value }, String(value)));
    const select = element("select", { attributes: { "aria-label": `${name} of ${this.content.name}` } }, ...options);
    select.addEventListener("change", (event) => {
      const chosen = start + Number(select.value);
      this.go(Float32Array.from(this.code, (old, at) => (at >= start && at < stop ? Number(at === chosen) : old)), event.timeStamp);
    });
    return { start, stop, select, row: element("div", { className: "slider" }, element("span", {}, name), select) };
  }

  // All dimensions of the slider's part by the same amount, so that their mean has the value.
  move({ start, stop }, value, time) {
    const shift = value - this.meanOf(this.code, start, stop);
    this.go(Float32Array.from(this.code, (old, at) => (at >= start && at < stop ? old + shift : old)), time);
  }

  meanOf(code, start, stop) {
    let sum = 0;
    for (let at = start; at < stop; at++) sum += code[at];
    return sum / (stop - start);
  }

  show(code) {
    this.code = code;
    for (const { start, stop, select } of this.choices) select.value = code.slice(start, stop).indexOf(Math.max(...code.slice(start, stop)));
    for (const { slider, input, value, from, to } of this.inputs) {
      const mean = this.meanOf(code, slider.start, slider.stop);
      input.value = Math.round((STEPS * (mean - from)) / (to - from));
      value.textContent = mean.toFixed(2);
      input.setAttribute("aria-valuetext", value.textContent);
    }
  }
}
