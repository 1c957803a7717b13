// The page's state in its address, after the #: a reload, a bookmark or a second window begins there.
const read = () => new URLSearchParams(location.hash.slice(1));

export const get = (name) => read().get(name);

// Values by name; an empty one is left out. It makes no new entry in the browser's history.
export function put(values) {
  const state = read();
  for (const [name, value] of Object.entries(values)) {
    if (value) state.set(name, value);
    else state.delete(name);
  }
  // Commas and slashes may stand there as they are, and can be read so.
  const text = state.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
  history.replaceState(null, "", `${location.pathname}${text ? `#${text}` : ""}`);
}

// The user edited the address, or went back in the history.
export const whenChanged = (call) => window.addEventListener("hashchange", call);
