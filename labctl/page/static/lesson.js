// The lesson: where the learner is, each checkpoint, and what labctl does about it now.
import { get, put, whenChanged } from "./address.js";
import { element, keepFocus, prose, words } from "./parts.js";
import { showSteps } from "./progress.js";
import { openSnapshots } from "./snapshots.js";

const MARKS = { passed: "✓", begun: "✗", now: "▸", open: "·" };

export function openLesson(send, terminals) {
  const course = document.getElementById("course");
  const buttons = document.getElementById("buttons");
  const work = document.getElementById("work");
  const log = document.getElementById("log");
  const lines = document.getElementById("lines");
  let lesson = null;
  let choices = [];
  let preview = {};
  let busy = "";
  let problem = "";
  let refused = null; // the last answer to a question that was not right, and what was said of it
  const snapshots = openSnapshots(act);
  const steps = showSteps(line);
  let isFirst = true; // the lesson that the address names is not yet opened where it says
  const opened = new Map(); // by the id of a checkpoint: whether the learner opened or closed it

  function tell(text, kind = "") {
    work.textContent = text;
    work.className = kind;
  }

  function act(verb, argument = "") {
    send("POST", "/do", { verb, argument }).catch((error) => tell(error.message, "bad"));
  }

  // One that is off can have the focus: it is on again in a moment.
  function button(text, onclick, { first = false, isOff = busy !== "", name = text } = {}) {
    const made = element("button", { onclick: isOff ? null : onclick, className: first ? "first" : "", ariaDisabled: String(isOff) }, text);
    made.dataset.do = name;
    return made;
  }

  function command({ prompt, text, output }) {
    const node = prompt.replace(/[#$]$/, "");
    const copy = element("button", {}, words.copy);
    copy.onclick = async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = words.copied;
      setTimeout(() => { copy.textContent = words.copy; }, 1500);
    };
    const actions = [copy];
    if (terminals.nodes.includes(node)) {
      actions.push(element("button", {
        onclick: () => terminals.run(node, text).catch((error) => tell(error.message, "bad")),
      }, words.run));
    }
    const parts = [element("pre", {}, `${prompt} ${text}`), element("div", { className: "actions" }, ...actions)];
    if (output) parts.push(printed(output));
    return parts;
  }

  // As it was printed, with its lines whole; the keyboard can move it.
  const printed = (text) => element("pre", { className: "output", tabIndex: 0 }, text);

  function claim({ ok, text, evidence, expected, seen }) {
    const item = element("li", { className: ok ? "good" : "bad" },
      element("span", { className: "mark", "aria-label": ok ? words.passed : words.failed, role: "img" }, ok ? "✓" : "✗"), text);
    for (const [name, value] of [[words.expected, expected], [words.seen, seen], [words.evidence, evidence]]) {
      if (value) item.append(element("div", {}, `${name}: ${value}`));
    }
    return item;
  }

  // The learner's draft outlives a new drawing of the page.
  const drafts = new Map();
  function asked(shown, text) {
    const parts = [element("h3", {}, words.question), ...prose(text)];
    if (shown.answer) return [...parts, element("p", { className: "good" }, `✓ ${shown.answer}`), ...prose(shown.why)];
    if (!shown.asks) return parts;
    const field = element("input", { value: drafts.get(shown.id) || "", required: true, maxLength: 200, autocomplete: "off", spellcheck: false, "aria-label": words.answer });
    field.dataset.do = "answer-text";
    field.oninput = () => { drafts.set(shown.id, field.value); };
    const submit = button(words.answer, () => {}, { name: "answer" });
    submit.type = "submit";
    const form = element("form", { className: "question" }, field, submit);
    form.onsubmit = (event) => {
      event.preventDefault();
      if (!busy && field.value.trim()) act("answer", field.value);
    };
    parts.push(form);
    if (refused && refused.id === shown.id) parts.push(element("p", { className: "bad", role: "status" }, refused.text));
    return parts;
  }

  function checkpoint(shown) {
    const box = element("details", { className: `checkpoint ${shown.standing}${shown.next ? " is-next" : ""}` });
    box.open = opened.has(shown.id) ? opened.get(shown.id) : shown.next;
    const summary = element("summary", {},
      element("span", { className: "mark", "aria-hidden": "true" }, MARKS[shown.standing]), shown.title,
      element("span", { className: "standing" }, words[shown.standing]));
    summary.onclick = () => {
      opened.set(shown.id, !box.open);
      put({ checkpoint: box.open ? "" : shown.id });
    };
    box.dataset.checkpoint = shown.id;
    box.append(summary);
    const coming = shown.next && preview.checkpoint === shown.id && preview.lesson === lesson.id ? preview : {};
    const explain = shown.explain || coming.explain || "";
    box.append(...prose(explain));
    if (coming.task) box.append(element("h3", {}, words.task), ...prose(coming.task));
    for (const one of shown.commands.length ? shown.commands : coming.commands || []) box.append(...command(one));
    if (shown.claims.length) box.append(element("ul", { className: "claims" }, ...shown.claims.map(claim)));
    const question = shown.question || coming.question;
    if (question) box.append(...asked(shown, question));
    if (shown.next && shown.hints) {
      box.append(element("p", {}, words.hints.replace("{given}", shown.hints).replace("{of}", shown.of)));
    }
    if (!shown.next) {
      box.append(element("div", { className: "actions" }, button(words.goto, () => act("goto", `${lesson.id}/${shown.id}`))));
    }
    return box;
  }

  function choice(entry) {
    const about = [element("strong", {}, entry.title), element("p", {}, entry.goal)];
    if (entry.needs) return element("div", { className: "choice" }, ...about, element("p", { className: "needs" }, entry.needs));
    return element("div", { className: "choice" }, ...about,
      element("div", { className: "actions" },
        button(words.start, () => act("start", entry.id)), button(words.practice, () => act("practice", entry.id))));
  }

  // Where the address says that the learner was: that checkpoint is open, and in view.
  function goToAddress() {
    const wanted = get("checkpoint");
    if (!lesson || get("lesson") !== lesson.id || !lesson.checkpoints.some(({ id }) => id === wanted)) return;
    opened.set(wanted, true);
    render();
    course.querySelector(`[data-checkpoint="${CSS.escape(wanted)}"]`).scrollIntoView({ block: "start" });
  }
  whenChanged(goToAddress);

  function render() {
    snapshots.setBusy(busy !== "");
    keepFocus(document.getElementById("lesson"), draw);
  }

  function draw() {
    if (lesson === null) {
      course.replaceChildren(element("h2", {}, words.choose), ...choices.map(choice));
      if (problem) course.append(element("p", { className: "bad" }, problem));
      buttons.replaceChildren(button(snapshots.label(words.reset, "reset"), () => snapshots.reset(), { name: "reset" }));
      return;
    }
    const parts = [element("h2", {}, lesson.title), ...prose(lesson.goal), ...lesson.checkpoints.map(checkpoint)];
    const atEnd = lesson.passed === lesson.checkpoints.length;
    if (atEnd) parts.push(element("p", {}, words.end), ...prose(lesson.summary));
    parts.push(element("details", { className: "checkpoint", open: opened.get("") ?? atEnd, ontoggle: ({ target }) => opened.set("", target.open) },
      element("summary", {}, words.other), ...choices.map(choice)));
    course.replaceChildren(...parts);
    const next = lesson.checkpoints.findIndex((shown) => shown.next);
    const before = next < 0 ? lesson.checkpoints.length - 1 : next - 1;
    const row = [button(words.previous, () => act("goto", `${lesson.id}/${lesson.checkpoints[before].id}`), { isOff: busy !== "" || before < 0 })];
    if (lesson.practice && !atEnd) {
      row.push(button(words.check, () => act("check"), { first: true }), button(words.hint, () => act("hint")), button(words.solve, () => act("solve")));
    } else if (!atEnd) {
      row.push(button(words.next, () => act("next"), { first: true }), button(words.check, () => act("check")));
    } else row.push(button(words.check, () => act("check")));
    row.push(button(snapshots.label(words.reset, "reset"), () => snapshots.reset(), { name: "reset" }));
    buttons.replaceChildren(...row);
  }

  function line(node) {
    log.hidden = false;
    lines.append(node);
    while (lines.childElementCount > 400) lines.firstElementChild.remove();
    node.scrollIntoView({ block: "nearest" });
  }

  const adders = {
    begun({ verb }) {
      lines.replaceChildren();
      log.hidden = false;
      log.open = true;
      busy = verb;
      tell(`${verb} ${words.running}`);
      render();
    },
    done({ verb, ok, seconds, text, hint }) {
      busy = "";
      steps.stop();
      if (verb === "answer") {
        const id = lesson?.checkpoints.find((shown) => shown.asks)?.id;
        refused = ok ? null : { id, text: [text, hint].filter(Boolean).join("\n") };
      }
      tell(ok ? `${verb}: ${words.done.replace("{seconds}", seconds.toFixed(1))}` : [text, hint].filter(Boolean).join("\n"), ok ? "good" : "bad");
      if (ok && !["hint", "check", "answer"].includes(verb)) log.open = false;
      render();
      // The message below may have grown, and the lesson above.
      if (log.open) lines.lastElementChild?.scrollIntoView({ block: "nearest" });
    },
    heading: ({ text }) => line(element("h3", {}, text)),
    text: ({ text }) => line(element("p", {}, text)),
    explain: ({ text }) => line(element("div", {}, ...prose(text))),
    command: ({ prompt, text }) => line(element("pre", {}, `${prompt} ${text}`)),
    output: ({ text }) => line(printed(text)),
    claim: (message) => line(element("ul", { className: "claims" }, claim(message))),
    summary: ({ ok, text }) => line(element("p", { className: ok ? "good" : "bad" }, text)),
    error: ({ text, hint }) => line(element("p", { className: "bad" }, [text, hint].filter(Boolean).join("\n"))),
    event(message) {
      if (message.event === "step_started") tell(`${message.title} ${words.running}`);
      else if (message.event === "run_finished" && !busy) tell(words.done.replace("{seconds}", message.seconds.toFixed(1)), message.ok ? "good" : "bad");
      if (!steps.add(message) && message.event === "note") line(element("p", {}, message.message));
    },
  };

  return {
    reset() {
      lines.replaceChildren();
      log.hidden = true;
    },
    setLesson(message) {
      if (message.lesson?.id !== lesson?.id) opened.clear();
      else if (message.lesson && message.lesson.passed !== lesson.passed) {
        // What was passed just now stays open: its output and its claims are to be read.
        opened.clear();
        const before = new Set(lesson.checkpoints.filter((c) => c.standing === "passed").map((c) => c.id));
        const fresh = message.lesson.checkpoints.filter((c) => c.standing === "passed" && !before.has(c.id));
        if (fresh.length) opened.set(fresh.at(-1).id, true);
      }
      ({ lesson, choices } = message);
      problem = message.problem || "";
      busy = message.verb || "";
      render();
      if (lesson && isFirst) {
        isFirst = false;
        goToAddress();
      }
      if (get("lesson") !== (lesson?.id || null)) put({ lesson: lesson?.id || "", checkpoint: "" });
    },
    setSnapshots(message) {
      snapshots.set(message);
      render();
    },
    setPreview(message) {
      preview = message;
      if (message.problem && !busy) tell([message.problem.text, message.problem.hint].filter(Boolean).join("\n"), "bad");
      render();
    },
    addMessage: (message) => adders[message.kind]?.(message),
  };
}
