// The drawing: replaced as a whole, its scroll position kept, and what is new fades in.
const place = document.getElementById("picture");
const style = document.createElement("style");
style.nonce = document.body.dataset.nonce;
document.head.append(style);
const NAMES = ["data-place", "data-logical", "data-node", "data-bridge", "data-segment"];

const whole = document.getElementById("whole");
function fit(isWhole) {
  whole.setAttribute("aria-pressed", String(isWhole));
  place.classList.toggle("whole", isWhole);
  sessionStorage.setItem("whole", isWhole ? "yes" : "");
}
whole.onclick = () => fit(whole.getAttribute("aria-pressed") !== "true");
fit(sessionStorage.getItem("whole") === "yes");

function nameOf(group) {
  const title = group.querySelector(":scope > title");
  return NAMES.map((name) => group.getAttribute(name) || "").join("|") + "|" + group.getAttribute("class") + "|" +
    (title ? title.textContent : "") + "|" + [...group.querySelectorAll(":scope > text")].map((t) => t.textContent).join(" ");
}

export function showPicture(text, css) {
  if (style.textContent !== css) style.textContent = css;
  // As XML: nothing in it runs, and what is no drawing is an error element.
  const drawn = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  if (drawn.localName !== "svg") return;
  const before = new Set([...place.querySelectorAll("svg g")].map(nameOf));
  const svg = document.importNode(drawn, true);
  if (before.size) {
    for (const group of svg.querySelectorAll("g")) if (!before.has(nameOf(group))) group.classList.add("new");
  }
  const { scrollTop, scrollLeft } = place;
  place.replaceChildren(svg);
  Object.assign(place, { scrollTop, scrollLeft });
}
