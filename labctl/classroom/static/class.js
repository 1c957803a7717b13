// The teacher's page. What comes from a learner's machine is only ever shown as text (textContent).
import { follow } from "/static/stream.js";

const words = JSON.parse(document.body.dataset.words);
const heads = JSON.parse(document.body.dataset.heads);
const asked = document.getElementById("asked");
const notes = document.getElementById("notes");
const table = document.querySelector("table");
const body = document.querySelector("tbody");
const SIGNS = { ok: "✓", stuck: "!", bad: "✗" };

function cell(text, head, name) {
  const made = document.createElement("td");
  made.setAttribute("role", "cell");
  made.dataset.head = head;
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function line(row) {
  const made = document.createElement("tr");
  made.setAttribute("role", "row");
  made.className = row.mark;
  made.append(cell(`${SIGNS[row.mark]} ${words[row.mark]}`, words.state, "mark"));
  for (const [name, head] of heads) made.append(cell(row.cells[name], head));
  return made;
}

// Only what changed is replaced, so that a screen reader and a selection stay where they are.
function show(message) {
  asked.classList.toggle("lost", Boolean(message.error));
  asked.textContent = message.error || message.asked;
  if (message.error) return;
  const lines = message.rows.map(line);
  lines.forEach((made, number) => {
    const old = body.children[number];
    if (!old) body.append(made);
    else if (!old.isEqualNode(made)) old.replaceWith(made);
  });
  while (body.children.length > lines.length) body.lastChild.remove();
  table.hidden = false;
  if (notes.dataset.seen !== JSON.stringify(message.notes)) {
    notes.dataset.seen = JSON.stringify(message.notes);
    notes.replaceChildren(...message.notes.map((text) => {
      const item = document.createElement("p");
      item.textContent = text;
      return item;
    }));
    notes.hidden = message.notes.length === 0;
  }
}

follow({
  told: show,
  lost: () => {
    asked.classList.add("lost");
    asked.textContent = words.lost;
  },
  patience: 10000,
});
