// Two terminals side by side, or one above the other on a narrow page, and the divider between them.
const LEAST = 10; // per cent of the place that each of the two keeps
const narrow = matchMedia("(max-width: 899px)"); // as in page.css

export function openSplit(place, divider, { ratio, onchange }) {
  function set(percent, { isDone = true } = {}) {
    ratio = Math.min(Math.max(percent, LEAST), 100 - LEAST);
    place.style.setProperty("--ratio", `${ratio}%`);
    divider.setAttribute("aria-valuenow", String(Math.round(ratio)));
    onchange(ratio, isDone);
  }

  function orient() {
    // A separator's orientation is its own: a line from top to bottom is vertical.
    divider.setAttribute("aria-orientation", narrow.matches ? "horizontal" : "vertical");
  }

  divider.setAttribute("aria-valuemin", String(LEAST));
  divider.setAttribute("aria-valuemax", String(100 - LEAST));
  narrow.addEventListener("change", orient);
  orient();
  divider.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    divider.focus();
    divider.setPointerCapture(event.pointerId);
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = place.getBoundingClientRect();
    const part = narrow.matches ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
    set(part * 100, { isDone: false });
  });
  divider.addEventListener("lostpointercapture", () => set(ratio));
  divider.addEventListener("dblclick", () => set(50));
  divider.addEventListener("keydown", ({ key }) => {
    const to = { ArrowLeft: ratio - 2, ArrowUp: ratio - 2, ArrowRight: ratio + 2, ArrowDown: ratio + 2,
      PageUp: ratio - 10, PageDown: ratio + 10, Home: LEAST, End: 100 - LEAST, Enter: 50 }[key];
    if (to !== undefined) set(to);
  });
  set(ratio);
}
