// Snapshots of the whole lab: the list, with a button for what can be done to each, and saving.
import { ask } from "./dialog.js";
import { element, keepFocus, words } from "./parts.js";
import { seconds as inSeconds } from "./progress.js";

// `act` begins a verb with its argument.
export function openSnapshots(act) {
  const place = document.getElementById("saved");
  const form = document.getElementById("save");
  const name = document.getElementById("name");
  const quick = document.getElementById("quick");
  let rows = [];
  let took = {};
  let problem = "";
  let isBusy = false;

  // A verb, with the seconds that it took the last time.
  function label(text, verb) {
    return took[verb] === undefined ? text : words.with_detail.replace("{text}", text).replace("{detail}", inSeconds(took[verb]));
  }

  function button(text, verb, row, question) {
    const what = `${text}: ${row.name}`;
    const made = element("button", {
      ariaDisabled: String(isBusy), ariaLabel: what,
      onclick: async () => { if (!isBusy && await ask(question.replace("{name}", row.name), text)) act(verb, row.name); },
    }, label(text, `${verb} ${row.name}`));
    made.dataset.do = verb;
    return made;
  }

  function entry(row) {
    const when = new Date(row.at * 1000).toLocaleString(document.documentElement.lang, { dateStyle: "short", timeStyle: "short" });
    const facts = [`${words.saved} ${when}`, row.size ? `${(row.size / 1e6).toFixed(1)} MB` : "", row.lesson].filter(Boolean);
    const actions = [];
    if (!row.trouble) {
      if (row.warm || row.cold) actions.push(button(words.restore, "restore", row, words.ask_restore));
      if (row.warm && row.cold) actions.push(button(words.restore_cold, "restore-cold", row, words.ask_restore));
    }
    actions.push(button(words.delete, "delete", row, words.ask_delete));
    return element("li", {},
      element("strong", {}, row.name), row.current ? element("span", { className: "mark now", title: words.current, role: "img", ariaLabel: words.current }, " ←") : "",
      element("p", {}, facts.join(" · ")),
      row.trouble ? element("p", { className: "bad" }, row.trouble) : "",
      element("div", { className: "actions" }, ...actions));
  }

  function render() {
    const parts = rows.length ? [element("ul", {}, ...rows.map(entry))] : [element("p", {}, words.no_snapshots)];
    if (problem) parts.push(element("p", { className: "bad" }, problem));
    keepFocus(place, () => place.replaceChildren(...parts));
    form.querySelector("button").ariaDisabled = String(isBusy);
  }

  form.onsubmit = (event) => {
    event.preventDefault();
    if (isBusy) return;
    act(quick.checked ? "save-warm" : "save", name.value.trim());
    name.value = "";
  };

  return {
    label,
    set(message) {
      ({ rows, seconds: took, problem } = message);
      render();
    },
    setBusy(busy) {
      if (busy === isBusy) return;
      isBusy = busy;
      render();
    },
    async reset() {
      if (await ask(words.ask_reset, words.reset)) act("reset");
    },
  };
}
