// The steps of what labctl does, as the console shows them: each with its seconds while it runs.
import { element, words } from "./parts.js";

const MARKS = { done: "✓", already: "✓", failed: "✗", skipped: "–" };
const TICK_MS = 200;
export const seconds = (value) => words.n_seconds.replace("{seconds}", value.toFixed(1));

// `line` puts an element at the end of the log.
export function showSteps(line) {
  const running = new Map();
  let timer = 0;

  function tick() {
    const now = performance.now();
    for (const { clock, began } of running.values()) clock.textContent = seconds((now - began) / 1000);
  }

  function stop() {
    for (const { box } of running.values()) box.classList.remove("running");
    running.clear();
    clearInterval(timer);
    timer = 0;
  }

  return {
    stop,
    // Whether the message was about a step.
    add(message) {
      if (message.event === "run_started") {
        stop();
        line(element("h3", {}, message.title));
      } else if (message.event === "step_started") {
        const clock = element("span", { className: "seconds" });
        const note = element("span", { className: "note" });
        const mark = element("span", { className: "mark", ariaHidden: "true" }, "▸");
        const place = message.node ? element("span", { className: "note" }, message.node) : "";
        const box = element("div", { className: "step running" }, mark, element("span", { className: "what" }, message.title, " ", place, " ", note), clock);
        running.set(message.id, { box, clock, note, mark, began: performance.now() });
        timer ||= setInterval(tick, TICK_MS);
        line(box);
      } else if (message.event === "step_progress") {
        const step = running.get(message.id);
        if (step) step.note.textContent = message.message;
      } else if (message.event === "step_finished") {
        const step = running.get(message.id);
        if (step) {
          running.delete(message.id);
          step.clock.textContent = seconds(message.seconds);
          step.note.textContent = "";
          step.mark.textContent = MARKS[message.outcome] || "";
          step.box.className = `step ${message.outcome}`;
        }
        if (message.outcome === "failed") line(element("p", { className: "bad" }, [message.detail || message.id, message.hint].filter(Boolean).join("\n")));
      } else if (message.event === "run_finished") {
        stop();
        line(element("p", { className: message.ok ? "good" : "bad" }, `${message.ok ? "✓" : "✗"} ${seconds(message.seconds)}`));
      } else return false;
      return true;
    },
  };
}
