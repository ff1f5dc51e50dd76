/* Plots */

const MOST_MS = 300e3, LEAST_MS = 10e3, EDGE = { left: 54, right: 10, top: 8, bottom: 20 };

class Plot {
  /** `series`: [key in the history, name, class]; `logarithmic` for latencies, whose tail is what matters. */
  constructor(figure, title, series, format, logarithmic) {
    Object.assign(this, { series, format, logarithmic, at: null, scale: "", span: MOST_MS });
    const caption = make("figcaption", {}, figure);
    make("h2", { text: title }, caption);
    this.values = make("div", { class: "values" }, caption);
    this.age = make("span", {}, this.values);
    this.svg = make("svg:svg", { tabindex: "0", role: "img" }, figure);
    this.title = title;
    this.grid = make("svg:g", {}, this.svg);
    this.area = logarithmic ? null : make("svg:path", { class: "area" }, this.svg);
    this.lines = series.map(([, , kind]) => make("svg:path", { class: kind }, this.svg));
    this.deaths = make("svg:path", { class: "death" }, this.svg);
    this.cross = make("svg:path", { class: "cross" }, this.svg);
    this.texts = series.map(([, name, kind]) => {
      make("span", { class: `key ${kind}` }, this.values);
      make("span", { text: `${name} ` }, this.values);
      return make("b", {}, this.values);
    });
    new ResizeObserver(([{ contentRect }]) => { this.width = contentRect.width; this.height = contentRect.height; this.scale = ""; render(true); }).observe(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.look(this.span * (1 - (event.offsetX - EDGE.left) / this.inner)));
    this.svg.addEventListener("pointerleave", () => this.look(null));
    this.svg.addEventListener("blur", () => this.look(null));
    this.svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: 5000, ArrowRight: -5000, PageUp: 60e3, PageDown: -60e3 }[event.key];
      if (event.key === "Escape") this.look(null);
      if (!by) return;
      event.preventDefault();
      this.look((this.at ?? 0) + by);
    });
  }

  look(age) {
    this.at = age === null ? null : clamp(age, 0, this.span);
    if (model.snapshot) this.draw(scoped(model.snapshot));
  }

  get inner() { return this.width - EDGE.left - EDGE.right; }
  x(age) { return EDGE.left + this.inner * (1 - age / this.span); }

  /** The ends of the scale and its marks: from 0 to a round figure, or from one power of ten to another. */
  range(values) {
    const high = values.reduce((most, value) => Math.max(most, value), 0);
    if (this.logarithmic) {
      const low = values.reduce((least, value) => (value > 0 ? Math.min(least, value) : least), high || 100);
      const from = Math.floor(Math.log10(Math.max(1, low))), to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(1, high))));
      return { low: from, high: to, marks: Array.from({ length: to - from + 1 }, (_, power) => 10 ** (from + power)) };
    }
    const rough = Math.max(1, high) / 3, power = 10 ** Math.floor(Math.log10(rough)), step = Math.max(1, [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) * power);
    const top = step * Math.max(1, Math.ceil(high / step));
    return { low: 0, high: top, marks: Array.from({ length: Math.round(top / step) + 1 }, (_, mark) => mark * step) };
  }

  draw({ history, uptime_ms, events }) {
    if (!(this.inner > 0)) return;
    // A young broker's axis begins where it does.
    this.span = clamp(Math.ceil(uptime_ms / 5000) * 5000, LEAST_MS, MOST_MS);
    const data = this.series.map(([key]) => history[key] ?? []), { low, high, marks } = this.range(data.flat());
    const floor = this.height - EDGE.bottom, tall = floor - EDGE.top;
    const y = (value) => floor - tall * ((this.logarithmic ? Math.log10(Math.max(1, value)) : value) - low) / (high - low);
    const scale = JSON.stringify([marks, this.width, this.height, this.span]);
    if (scale !== this.scale) this.drawGrid(marks, y, this.scale = scale);
    data.forEach((values, index) => {
      let path = "", open = false, from = 0;
      values.forEach((value, at) => {
        const age = (values.length - 1 - at) * history.step_ms, drawn = age <= this.span && (value > 0 || !this.logarithmic);
        if (drawn) path += `${open ? "L" : "M"}${this.x(age).toFixed(1)} ${y(value).toFixed(1)}`;
        if (drawn && !from) from = this.x(age);
        open = drawn;
      });
      put(this.lines[index], "d", path);
      if (this.area) put(this.area, "d", path && `${path}V${floor}H${from.toFixed(1)}Z`);
    });
    const deaths = events.filter((event) => event.kind === "dropped" && uptime_ms - event.at_ms < this.span).map((event) => Math.round(this.x(uptime_ms - event.at_ms)));
    put(this.deaths, "d", deaths.map((x) => `M${x - 3} ${floor - 3}l6 6m0 -6l-6 6`).join(""));
    const age = this.at ?? 0, texts = data.map((values) => {
      const value = values[values.length - 1 - Math.round(age / history.step_ms)];
      return value === undefined || (this.logarithmic && !value) ? "–" : this.format(value);
    });
    put(this.cross, "d", this.at === null ? "" : `M${Math.round(this.x(age))} ${EDGE.top}V${floor}`);
    say(this.age, this.at === null ? "" : `${ms(age)} ago`);
    texts.forEach((text, index) => say(this.texts[index], text));
    put(this.svg, "aria-label", `${this.title}, ${this.at === null ? "now" : `${ms(age)} ago`}: ${texts.map((text, index) => `${this.series[index][1]} ${text}`).join(", ")}. Arrow keys look back.`);
  }

  drawGrid(marks, y) {
    this.grid.replaceChildren();
    for (const mark of marks) {
      make("svg:path", { class: "grid", d: `M${EDGE.left} ${Math.round(y(mark))}H${this.width - EDGE.right}` }, this.grid);
      make("svg:text", { x: EDGE.left - 8, y: y(mark) + 4, "text-anchor": "end", text: this.logarithmic ? microseconds(mark).map((part) => part.replace(/\.0+$/, "")).join(" ") : mark < 1e6 ? count(mark) : `${mark / 1e6} M` }, this.grid);
    }
    // As many marks as there is room for.
    const room = Math.max(2, Math.floor(this.inner / 62)), step = [5e3, 10e3, 15e3, 30e3, 60e3, 120e3].find((step) => this.span / step <= room) ?? MOST_MS;
    for (let age = 0; age <= this.span; age += step) {
      const x = this.x(age), anchor = age === 0 ? "end" : x < EDGE.left + 24 ? "start" : "middle";
      make("svg:text", { x, y: this.height - 5, "text-anchor": anchor, text: age === 0 ? "now" : step < 60e3 ? `−${age / 1e3} s` : `−${age / 60e3} min` }, this.grid);
    }
  }
}
