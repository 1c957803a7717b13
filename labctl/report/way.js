"use strict";
// Finds the path of a packet over the picture: vertical and horizontal pieces, along the drawn cables,
// through the bridges and networks that the packet passes, and not over texts. It reads the picture and never changes it.
const labctlWay = (() => {
  const MARGIN = 4; // pixels between the path and the frame of a box
  const HALF = 3; // pixels: half the width of the drawn path
  const APART = 4; // pixels by which the reply's path is drawn lower and further right (page.css)
  const BEND = 14; // cost of a bend, in pixels
  const FOREIGN = 3; // cost of a pixel in a box that is not passed, or along a frame
  const OUTSIDE = 2; // cost of a pixel outside of everything that is passed
  const WORDS = 2000; // cost of a piece over a text
  const MOST = 400_000; // states of the search; larger pictures get straight lines

  // -- boxes in the picture's own units ----------------------------------------------------------
  const boxOf = (svg, element) => {
    const box = element.getBBox();
    const turn = svg.getScreenCTM().inverse().multiply(element.getScreenCTM());
    const from = new DOMPoint(box.x, box.y).matrixTransform(turn);
    const to = new DOMPoint(box.x + box.width, box.y + box.height).matrixTransform(turn);
    return { left: from.x, top: from.y, right: to.x, bottom: to.y };
  };
  const holds = (box, x, y) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
  const inset = (box, by) => ({
    left: box.left + by, top: box.top + by, right: box.right - by, bottom: box.bottom - by,
  });
  // The length of a vertical or horizontal piece inside a box.
  const within = (box, a, b) => {
    const wide = Math.min(Math.max(a.x, b.x), box.right) - Math.max(Math.min(a.x, b.x), box.left);
    const high = Math.min(Math.max(a.y, b.y), box.bottom) - Math.max(Math.min(a.y, b.y), box.top);
    return wide >= 0 && high >= 0 ? Math.max(wide, high) : 0;
  };

  // -- what a packet passes between two places ---------------------------------------------------
  const marked = (svg, kind, name) => svg.querySelector(`[data-${kind}="${CSS.escape(name)}"]`);

  // A network is drawn as one bar for each row of nodes: the bar nearest to this node.
  const nearest = (svg, name, node) => {
    const at = boxOf(svg, node);
    const bars = [...svg.querySelectorAll(`[data-segment="${CSS.escape(name)}"]`)];
    const away = (bar) => {
      const box = boxOf(svg, bar);
      return Math.min(Math.abs(box.bottom - at.top), Math.abs(box.top - at.bottom));
    };
    return bars.sort((a, b) => away(a) - away(b))[0] ?? null;
  };

  // The vertical line at the left that connects the rows.
  const lane = (svg, bar) => {
    const edge = boxOf(svg, bar).left;
    return [...svg.querySelectorAll(".l-private")].find((line) => {
      const box = boxOf(svg, line);
      return box.right < edge && box.bottom > box.top;
    });
  };

  const bridge = (element) => element.closest("[data-bridge]");

  // The elements to pass, in this order; null for one that the picture does not have.
  const stations = (svg, from, to) => {
    const [here, there] = [from, to].map((one) => one.closest("[data-node]"));
    if (here && here === there) {
      if (bridge(from) && bridge(from) === bridge(to)) return [];
      return [bridge(from), marked(svg, "bridge", `${here.dataset.node}/br-int`), bridge(to)];
    }
    if (here && there) {
      const bars = [here, there].map((one) => nearest(svg, "private", one));
      if (bars.includes(null)) return null;
      const tubes = bars.map((one) => one.querySelector(".tube") ?? one);
      return bars[0] === bars[1] ? [tubes[0]] : [tubes[0], lane(svg, bars[0]), tubes[1]];
    }
    const node = here ?? there; // the other is the Internet
    if (!node) return null;
    const own = marked(svg, "segment", `nat/${node.dataset.node}`);
    const way = [bridge(here ? from : to), own ?? nearest(svg, "nat", node)];
    return here ? way : way.reverse();
  };

  // -- cables ------------------------------------------------------------------------------------
  // The corners of a drawn line, in the picture's own units.
  const cornersOf = (svg, line) => {
    const turn = svg.getScreenCTM().inverse().multiply(line.getScreenCTM());
    return [...line.points].map((one) => {
      const { x, y } = one.matrixTransform(turn);
      return { x, y };
    });
  };

  const TOUCHES = 2; // pixels between the end of a line and the frame of what it ends at

  // The drawn line from one element, or what it is part of in a node, to another; null without one.
  const cable = (lines, one, other) => {
    const [from, to] = [one, other].map((element) => {
      const found = [];
      for (let at = element; at && !at.matches(".host, .layer, svg"); at = at.parentElement) {
        const frame = at.querySelector(":scope > .b");
        if (frame) found.push(inset(boxOf(at.ownerSVGElement, frame), -TOUCHES));
      }
      return found;
    });
    // A line that ends at a port ends at the bridge around it, too: the innermost is meant.
    const depth = (boxes, { x, y }) => {
      const found = boxes.findIndex((box) => holds(box, x, y));
      return found < 0 ? Infinity : found;
    };
    const ranked = lines
      .flatMap((points) => [points, [...points].reverse()])
      .map((points) => [depth(from, points[0]) + depth(to, points.at(-1)), points])
      .filter(([rank]) => rank < Infinity);
    return ranked.sort((a, b) => a[0] - b[0])[0]?.[1] ?? null;
  };

  // -- obstacles --------------------------------------------------------------------------------
  const BOXES = ".port, .vm, .own, .net, .host";

  const obstacles = (svg, layer, from, to, passed) => {
    const ends = [from, to];
    const nodes = ends.map((one) => one.closest("[data-node]"));
    const mine = (element) =>
      passed.some((one) => element.contains(one)) ||
      ends.some((one) => element !== one && element.contains(one));
    const hidden = [...layer.querySelectorAll(".host")].filter((one) => !nodes.includes(one));
    const seen = (element) => !hidden.some((one) => one !== element && one.contains(element));
    // The reply's path is drawn beside this one and must not touch the texts either.
    const words = [...layer.querySelectorAll("text")].filter(seen).map((one) => {
      const box = boxOf(svg, one);
      return {
        left: box.left - HALF - APART, top: box.top - HALF - APART,
        right: box.right + HALF, bottom: box.bottom + HALF,
      };
    });
    const boxes = [...layer.querySelectorAll(BOXES)]
      .filter((one) => seen(one) && !mine(one))
      .map((one) => boxOf(svg, one.querySelector(".b") ?? one));
    return { words, boxes };
  };

  // -- the cheapest path, in a grid made of the edges of all boxes and texts -----------------------
  const sorted = (numbers) => [...new Set(numbers.map((one) => Math.round(one * 2) / 2))].sort((a, b) => a - b);

  const grid = (scope, start, goal, regions, { words, boxes }) => {
    const [xs, ys] = [[start.x, goal.x], [start.y, goal.y]];
    for (const one of words) {
      xs.push(one.left - 0.5, one.right + 0.5);
      ys.push(one.top - 0.5, one.bottom + 0.5);
    }
    for (const one of boxes) {
      xs.push(one.left - MARGIN - APART, one.right + MARGIN);
      ys.push(one.top - MARGIN - APART, one.bottom + MARGIN);
    }
    for (const one of regions) {
      xs.push(one.left, one.right, (one.left + one.right) / 2);
      ys.push(one.top, one.bottom, (one.top + one.bottom) / 2);
    }
    return [
      sorted(xs.filter((x) => x >= scope.left && x <= scope.right)),
      sorted(ys.filter((y) => y >= scope.top && y <= scope.bottom)),
    ];
  };

  class Queue {
    #heap = [];
    get size() { return this.#heap.length; }
    push(cost, item) {
      const heap = this.#heap;
      let at = heap.push([cost, item]) - 1;
      while (at && heap[(at - 1) >> 1][0] > cost) {
        [heap[at], heap[(at - 1) >> 1]] = [heap[(at - 1) >> 1], heap[at]];
        at = (at - 1) >> 1;
      }
    }
    pop() {
      const heap = this.#heap;
      const first = heap[0];
      const last = heap.pop();
      if (heap.length) {
        heap[0] = last;
        for (let at = 0; ;) {
          let least = at;
          for (const child of [2 * at + 1, 2 * at + 2]) {
            if (child < heap.length && heap[child][0] < heap[least][0]) least = child;
          }
          if (least === at) break;
          [heap[at], heap[least]] = [heap[least], heap[at]];
          at = least;
        }
      }
      return first;
    }
  }

  const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];

  const search = (start, goal, regions, scope, things) => {
    const [xs, ys] = grid(scope, start, goal, regions, things);
    const [wide, high, stops] = [xs.length, ys.length, regions.length];
    const count = wide * high * 4 * (stops + 1);
    const nearestTo = (list, value) =>
      list.reduce((best, one, n) => (Math.abs(one - value) < Math.abs(list[best] - value) ? n : best), 0);
    if (!wide || !high || count > MOST) return null;
    const point = (cell) => ({ x: xs[cell % wide], y: ys[Math.floor(cell / wide)] });
    // Elements to pass that contain this cell count as passed, in their order.
    const passed = (cell, before) => {
      const { x, y } = point(cell);
      let after = before;
      while (after < stops && holds(regions[after], x, y)) after += 1;
      return after;
    };
    const prices = new Map();
    const price = (a, b) => {
      const key = Math.min(a, b) * wide * high + Math.max(a, b);
      if (!prices.has(key)) {
        const [from, to] = [point(a), point(b)];
        const length = Math.abs(from.x - to.x) + Math.abs(from.y - to.y);
        const middle = [(from.x + to.x) / 2, (from.y + to.y) / 2];
        let sum = length * (regions.some((one) => holds(one, ...middle)) ? 1 : OUTSIDE);
        for (const one of things.boxes) sum += (FOREIGN - 1) * within(one, from, to);
        for (const one of things.words) if (within(one, from, to)) sum += WORDS;
        prices.set(key, sum);
      }
      return prices.get(key);
    };
    const first = nearestTo(ys, start.y) * wide + nearestTo(xs, start.x);
    const last = nearestTo(ys, goal.y) * wide + nearestTo(xs, goal.x);
    const costs = new Float64Array(count).fill(Infinity);
    const before = new Int32Array(count).fill(-1);
    const queue = new Queue();
    const state = (cell, way, done) => (cell * (stops + 1) + done) * 4 + way;
    const done = passed(first, 0);
    for (let way = 0; way < 4; way += 1) {
      costs[state(first, way, done)] = 0;
      queue.push(0, state(first, way, done));
    }
    while (queue.size) {
      const [cost, now] = queue.pop();
      if (cost > costs[now]) continue;
      const way = now % 4;
      const stage = Math.floor(now / 4) % (stops + 1);
      const cell = Math.floor(now / 4 / (stops + 1));
      if (cell === last && stage === stops) {
        const points = [];
        for (let one = now; one >= 0; one = before[one]) points.unshift(point(Math.floor(one / 4 / (stops + 1))));
        return points;
      }
      STEPS.forEach(([dx, dy], to) => {
        const [column, row] = [(cell % wide) + dx, Math.floor(cell / wide) + dy];
        if (column < 0 || row < 0 || column >= wide || row >= high || (to + 2) % 4 === way) return;
        const next = row * wide + column;
        const all = cost + price(cell, next) + (to === way ? 0 : BEND);
        const there = state(next, to, passed(next, stage));
        if (all >= costs[there]) return;
        costs[there] = all;
        before[there] = now;
        queue.push(all, there);
      });
    }
    return null;
  };

  // Keeps only the corners of a path.
  const corners = (points) =>
    points.filter((one, n) => {
      const [a, b] = [points[n - 1], points[n + 1]];
      return !a || !b || !((a.x === one.x && b.x === one.x) || (a.y === one.y && b.y === one.y));
    });

  // The part of the picture to search for a path that touches these elements.
  const scopeOf = (svg, layer, elements, points) => {
    const nodes = new Set(elements.map((one) => one.closest("[data-node]")));
    const [node] = nodes;
    const all = nodes.size > 1 || (!node && elements.length > 1);
    const box = all
      ? boxOf(svg, layer)
      : node ? inset(boxOf(svg, node.querySelector(".b")), MARGIN) : inset(boxOf(svg, elements[0]), -4 * MARGIN); // around it, too, if the path ends at it
    return {
      left: Math.min(box.left, ...points.map(({ x }) => x)), top: Math.min(box.top, ...points.map(({ y }) => y)),
      right: Math.max(box.right, ...points.map(({ x }) => x)), bottom: Math.max(box.bottom, ...points.map(({ y }) => y)),
    };
  };

  // The corners from start to end, both included; a straight line where no path is found. Where a cable
  // is drawn between two things that the packet passes, its corners are a part of it.
  const between = (svg, from, to, start, goal) => {
    const found = stations(svg, from, to);
    if (!found) return [start, goal];
    const passed = found.filter((one, n) => one && found.indexOf(one) === n);
    const layer = (from.closest("[data-node]") ?? to.closest("[data-node]")).closest(".layer");
    const lines = [...layer.querySelectorAll(".l")].map((line) => cornersOf(svg, line));
    const things = obstacles(svg, layer, from, to, passed);
    const path = [start];
    let elements = [from];
    // From the end of the path to a point, through the elements since the last cable.
    const reach = (point) => {
      const regions = elements.filter((one) => one !== from && one !== to).map((one) => {
        const box = boxOf(svg, one.querySelector(".b") ?? one);
        return box.right - box.left > 2 * MARGIN ? inset(box, MARGIN) : inset(box, -1);
      });
      const here = path.at(-1);
      const points = search(here, point, regions, scopeOf(svg, layer, elements, [here, point]), things);
      path.push(...(points ?? []).slice(1, -1), point);
    };
    for (const one of [...passed, to]) {
      const points = cable(lines, elements.at(-1), one);
      if (points) {
        reach(points[0]);
        path.push(...points.slice(1));
        elements = [];
      }
      elements.push(one);
    }
    reach(goal);
    return corners(path);
  };

  return { between };
})();
