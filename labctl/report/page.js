"use strict";
// All texts are in the markup, in both languages. This script only shows, hides and copies elements,
// and moves the packet. It never makes markup from text.
(() => {
  const root = document.documentElement;
  const NS = "http://www.w3.org/2000/svg";
  const quiet = matchMedia("(prefers-reduced-motion: reduce)");
  root.classList.add("script");

  // -- choices that are remembered, where the browser allows local storage for a file -------------
  const remember = (key, value) => {
    try { localStorage.setItem("labctl-report-" + key, value); } catch { /* private window */ }
  };
  const recall = (key) => {
    try { return localStorage.getItem("labctl-report-" + key); } catch { return null; }
  };
  const press = (name, value) => {
    for (const button of document.querySelectorAll(`button[data-${name}]`)) {
      button.setAttribute("aria-pressed", String(button.dataset[name] === value));
    }
  };
  const players = [];

  const setLanguage = (language) => {
    root.lang = language;
    document.title = language === "zh-TW" ? root.dataset.titleZhTw : root.dataset.titleEn;
    press("language", language);
    for (const player of players) player.redraw();
    scrollers();
  };
  const setTheme = (theme) => {
    root.classList.remove("theme-light", "theme-dark");
    if (theme !== "system") root.classList.add("theme-" + theme);
    press("theme", theme);
  };
  for (const button of document.querySelectorAll("button[data-language]")) {
    button.addEventListener("click", () => {
      setLanguage(button.dataset.language);
      remember("language", button.dataset.language);
    });
  }
  for (const button of document.querySelectorAll("button[data-theme]")) {
    button.addEventListener("click", () => {
      setTheme(button.dataset.theme);
      remember("theme", button.dataset.theme);
    });
  }

  // Only elements that scroll get a tab stop. Measuring a closed element would make the browser lay
  // it out, so that waits until it is opened.
  const scrollers = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.closest("details:not([open])")) continue;
      const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };

  // -- a walk ------------------------------------------------------------------------------------
  const make = (name, attributes, parent) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  };

  // A copy of the picture in the page's language, with ids of its own.
  const picture = (suffix) => {
    const original = document.querySelector(`.drawing[lang="${root.lang}"] svg`);
    const svg = original.cloneNode(true);
    const own = new Map();
    for (const style of svg.querySelectorAll("style")) style.remove(); // the original's style applies here, too
    for (const element of [svg, ...svg.querySelectorAll("[id]")]) {
      if (!element.id) continue;
      own.set(element.id, element.id + suffix);
      element.id += suffix;
    }
    for (const element of [svg, ...svg.querySelectorAll("*")]) {
      for (const { name, value } of [...element.attributes]) {
        if (name === "id") continue;
        const mended = name.startsWith("aria-")
          ? value.split(" ").map((id) => own.get(id) ?? id).join(" ")
          : value.replace(/#([^)"]+)/g, (all, id) => (own.has(id) ? "#" + own.get(id) : all));
        if (mended !== value) element.setAttribute(name, mended);
      }
    }
    return svg;
  };

  // The first part of a path; `part` is from 0 to 1.
  const along = (points, part) => {
    const far = (a, b) => Math.hypot(b.x - a.x, b.y - a.y);
    let left = part * points.slice(1).reduce((sum, one, n) => sum + far(points[n], one), 0);
    const gone = points.slice(0, 1);
    for (let n = 1; n < points.length; n += 1) {
      const [a, b] = [points[n - 1], points[n]];
      const length = far(a, b);
      if (length >= left) {
        const share = length ? left / length : 0;
        return [...gone, { x: a.x + (b.x - a.x) * share, y: a.y + (b.y - a.y) * share }];
      }
      gone.push(b);
      left -= length;
    }
    return gone;
  };

  class Player {
    constructor(section) {
      this.section = section;
      this.stage = section.querySelector(".stage");
      this.now = section.querySelector(".now");
      this.steps = [...section.querySelectorAll("li[data-step]")];
      this.at = 0;
      this.playing = false;
      this.timer = 0;
      this.frame = 0;
      const on = (what, act) =>
        section.querySelector(`[data-do="${what}"]`).addEventListener("click", act);
      on("first", () => { this.pause(); this.go(0); });
      on("previous", () => { this.pause(); this.go(this.at - 1); });
      on("next", () => { this.pause(); this.go(this.at + 1); });
      on("play", () => this.toggle());
      this.steps.forEach((step, number) =>
        step.querySelector("button.to").addEventListener("click", () => {
          this.pause();
          this.go(number);
        }));
      section.addEventListener("keydown", (event) => this.key(event));
      // A walk at a step of a lesson is shown while both are open.
      for (let one = section; one; one = one.parentElement.closest("details")) {
        one.addEventListener("toggle", () => { this.shown ? this.open() : this.pause(); });
      }
      this.open();
    }

    get shown() { return !this.section.closest("details:not([open])"); }

    open() {
      if (this.svg || !this.shown) return;
      this.redraw();
      this.go(this.at, true);
      scrollers();
    }

    redraw() {
      if (!this.svg && !this.shown) return;
      cancelAnimationFrame(this.frame);
      this.svg?.remove();
      this.svg = null;
      if (!this.shown) return; // hidden elements cannot be measured
      this.svg = picture("--" + this.section.id);
      this.ways = new Map();
      this.stage.append(this.svg);
      this.overlay = make("g", { class: "walking", "aria-hidden": "true" }, this.svg);
      this.show(1);
    }

    key(event) {
      if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("select, .scroll")) return;
      const acts = {
        ArrowLeft: () => this.go(this.at - 1),
        ArrowRight: () => this.go(this.at + 1),
        Home: () => this.go(0),
        End: () => this.go(this.steps.length - 1),
        p: () => this.toggle(),
        P: () => this.toggle(),
      };
      const act = acts[event.key];
      if (!act) return;
      event.preventDefault();
      if (event.key.toLowerCase() !== "p") this.pause();
      act();
    }

    get speed() { return Number(this.section.querySelector('[data-do="speed"]').value); }

    toggle() {
      if (this.playing) { this.pause(); return; }
      this.playing = true;
      this.section.classList.add("playing");
      if (this.at === this.steps.length - 1) this.go(0, true);
      this.later();
    }

    pause() {
      this.playing = false;
      this.section.classList.remove("playing");
      clearTimeout(this.timer);
    }

    // A hop with changes is shown longer: there is more to read.
    later() {
      const changed = this.steps[this.at].querySelector(".changes");
      this.timer = setTimeout(() => {
        if (!this.playing) return;
        this.go(this.at + 1);
        if (this.at === this.steps.length - 1) this.pause();
        else this.later();
      }, (changed ? 2600 : 1500) / this.speed);
    }

    go(number, atOnce = false) {
      const to = Math.max(0, Math.min(number, this.steps.length - 1));
      const from = this.at;
      this.at = to;
      this.steps.forEach((step, n) => {
        step.classList.toggle("current", n === to);
        const button = step.querySelector("button.to");
        if (n === to) button.setAttribute("aria-current", "step");
        else button.removeAttribute("aria-current");
      });
      const can = (what, yes) =>
        this.section.querySelector(`[data-do="${what}"]`).setAttribute("aria-disabled", String(!yes));
      can("first", to > 0);
      can("previous", to > 0);
      can("next", to < this.steps.length - 1);
      this.tell();
      cancelAnimationFrame(this.frame);
      if (atOnce || quiet.matches || Math.abs(to - from) !== 1) { this.show(1); return; }
      const began = performance.now();
      const takes = 700 / this.speed;
      const move = (time) => {
        const part = Math.min(1, Math.max(0, (time - began) / takes));
        this.show(part * part * (3 - 2 * part), from);
        if (part < 1) this.frame = requestAnimationFrame(move);
      };
      this.frame = requestAnimationFrame(move);
    }

    // The text of the step, below the picture and for screen readers.
    tell() {
      const step = this.steps[this.at];
      const said = [document.createTextNode(`${this.at + 1}/${this.steps.length} `)];
      for (const part of step.querySelectorAll(".say")) {
        const copy = document.createElement("span");
        for (const item of part.matches("ul") ? part.children : [part]) {
          const piece = document.createElement("span");
          piece.className = part.matches("ul") ? "change" : "";
          piece.append(...item.cloneNode(true).childNodes);
          copy.append(piece, " ");
        }
        said.push(copy);
      }
      this.now.replaceChildren(...said);
    }

    element(place) { return this.svg.querySelector(`[data-place="${CSS.escape(place)}"]`); }

    // The corner of a place, where the packet does not cover its name, in units of the picture; null
    // where the picture does not have the place.
    point(place) {
      const element = this.element(place);
      const here = this.svg.getScreenCTM();
      if (!element || !here) return null;
      const box = element.getBBox();
      const corner = new DOMPoint(box.x + box.width, box.y);
      const at = corner.matrixTransform(here.inverse().multiply(element.getScreenCTM()));
      return { x: Math.round(at.x * 2) / 2, y: Math.round(at.y * 2) / 2 };
    }

    // The corners of the path between two places, the same in both directions; empty where the
    // picture lacks one of them.
    way(from, to) {
      const [one, other] = [from, to].sort();
      const name = `${one} ${other}`;
      if (!this.ways.has(name)) {
        const [start, goal] = [this.point(one), this.point(other)];
        if (!start || !goal || one === other) return [];
        this.ways.set(name, labctlWay.between(this.svg, this.element(one), this.element(other), start, goal));
      }
      const points = this.ways.get(name);
      return one === from ? points : [...points].reverse();
    }

    // The path between two hops, by their numbers.
    hop(from, to) { return this.way(this.steps[from].dataset.place, this.steps[to].dataset.place); }

    draw(points, looks) {
      const all = points.map(({ x, y }) => `${x},${y}`).join(" ");
      if (points.length > 1) make("polyline", { class: looks, points: all }, this.overlay);
    }

    show(part, from = this.at) {
      if (!this.svg) return;
      const layer = this.overlay;
      layer.replaceChildren();
      for (const lit of this.svg.querySelectorAll(".lit")) lit.classList.remove("lit");
      const step = this.steps[this.at];
      const trail = (n) => "trail " + this.steps[n].dataset.direction;
      const reached = part < 1 ? Math.min(this.at, from) : this.at;
      for (let n = 1; n <= reached; n += 1) this.draw(this.hop(n - 1, n), trail(n));
      const goal = this.point(step.dataset.place);
      if (!goal) return;
      const gone = part < 1 ? along(this.hop(from, this.at), part) : [];
      const { x, y } = gone.at(-1) ?? goal;
      if (gone.length) {
        const back = this.at < from;
        this.draw(back ? along(this.hop(this.at, from), 1 - part) : gone, trail(Math.max(this.at, from)));
      }
      const last = step.classList.contains("end");
      const lost = last && step.classList.contains("bad");
      const expected = this.section.dataset.expected && this.point(this.section.dataset.expected);
      if (lost && expected) {
        this.draw(this.way(step.dataset.place, this.section.dataset.expected), "missing");
        make("circle", { class: "missing", cx: expected.x, cy: expected.y, r: 11 }, layer);
      }
      for (const name of JSON.parse(step.dataset.logical)) {
        this.svg.querySelector(`[data-logical="${CSS.escape(name)}"]`)?.classList.add("lit");
      }
      const packet = make("g", { class: `packet ${step.dataset.direction} ${lost ? "lost" : ""}` }, layer);
      make("circle", { cx: x, cy: y, r: 9 }, packet);
      const mark = make("text", { x, y: y + 4.5, class: "mark" }, packet);
      mark.textContent = last ? (lost ? "✗" : "✓") : "";
      this.label(step.dataset.line, step.dataset.outer, x, y);
      if (part === 1) this.follow();
    }

    // The header moves with the packet, beside it and inside the picture. In a tunnel the outer header
    // is drawn around the inner one.
    label(text, outer, x, y) {
      if (!text) return;
      const group = make("g", { class: "headers" }, this.overlay);
      const inner = this.header("header", text, group);
      const around = outer ? this.header("around", outer, group) : null;
      if (around) group.prepend(around.box); // below the inner header
      const high = inner.height + 8;
      const width = Math.max(inner.width, around ? Math.max(around.width, inner.width + 16) : 0);
      const height = high + (around ? around.height + 14 : 0);
      const view = this.svg.viewBox.baseVal;
      const left = Math.max(view.x + 4, Math.min(x - width / 2, view.x + view.width - width - 4));
      const above = y - 18 - height;
      const top = above > view.y + 4 ? above : y + 18;
      if (around) this.place(around, left, top, width, height);
      const [shift, down] = around ? [8, around.height + 6] : [0, 0];
      this.place(inner, left + shift, top + down, width - 2 * shift, high);
    }

    // One header with its frame, to be placed.
    header(looks, text, parent) {
      const group = make("g", { class: looks }, parent);
      const box = make("rect", { rx: 4 }, group);
      const words = make("text", {}, group);
      words.textContent = text;
      // On a phone the line does not fit: its second part goes below the addresses.
      const scale = this.svg.getScreenCTM()?.a || 1;
      if ((words.getBBox().width + 32) * scale > this.stage.clientWidth) {
        words.textContent = "";
        for (const [n, part] of text.split("  ").entries()) {
          make("tspan", { x: 0, dy: n ? 16 : 0 }, words).textContent = part;
        }
      }
      const size = words.getBBox();
      return { box, words, width: size.width + 12, height: size.height, above: -size.y };
    }

    place({ box, words, above }, left, top, width, height) {
      for (const [key, value] of Object.entries({ x: left, y: top, width, height })) box.setAttribute(key, value);
      for (const one of [words, ...words.children]) one.setAttribute("x", left + 6);
      words.setAttribute("y", top + 4 + above);
    }

    // Where the picture is larger than its frame: keep the packet visible with its headers, and as much
    // as fits of the routers and switches that have just worked on it, the nearest edge first.
    follow() {
      const frame = this.stage.getBoundingClientRect();
      const boxes = (all) => all.map((one) => one.getBoundingClientRect()).filter((box) => box.width);
      const must = boxes([...this.overlay.querySelectorAll(".packet, .headers")]);
      const may = boxes([...this.svg.querySelectorAll(".router.lit"), ...this.svg.querySelectorAll(".lit")]);
      const reach = (list, from, to) => [
        Math.min(...list.map((box) => box[from])) - 12, Math.max(...list.map((box) => box[to])) + 12,
      ];
      const to = (from, until, room) => {
        let [low, high] = reach(must, from, until);
        for (const box of may) {
          const [lower, higher] = reach([box], from, until);
          const both = [Math.min(low, lower), Math.max(high, higher)];
          // What does not fit as a whole is shown as far as there is room beside the packet.
          if (both[1] - both[0] <= room) [low, high] = both;
          else if (lower < low) low = Math.max(lower, high - room);
          else high = Math.min(higher, low + room);
        }
        return (low + high - room) / 2 - frame[from];
      };
      this.stage.scrollTo({
        left: this.stage.scrollLeft + to("left", "right", this.stage.clientWidth),
        top: this.stage.scrollTop + to("top", "bottom", this.stage.clientHeight),
        behavior: quiet.matches ? "auto" : "smooth",
      });
    }
  }

  for (const section of document.querySelectorAll("details.walk")) players.push(new Player(section));

  // -- printing: light, everything open, every walk at its end -----------------------------------
  let before = [];
  let theme = "";
  addEventListener("beforeprint", () => {
    theme = document.querySelector('button[data-theme][aria-pressed="true"]').dataset.theme;
    setTheme("light");
    before = [...document.querySelectorAll("details:not([open])")];
    for (const one of before) one.open = true;
    for (const player of players) {
      player.pause();
      player.open();
      player.kept = player.at;
      player.go(player.steps.length - 1, true);
    }
  });
  addEventListener("afterprint", () => {
    setTheme(theme);
    for (const one of before) one.open = false;
    for (const player of players) player.go(player.kept, true);
  });

  setTheme(recall("theme") ?? "system");
  setLanguage(recall("language") ?? root.lang);
  addEventListener("resize", scrollers);
  for (const one of document.querySelectorAll("details")) one.addEventListener("toggle", scrollers);
})();
