// The teacher's page. What comes from a learner's machine is only ever shown as text (textContent).
const words = JSON.parse(document.body.dataset.words);
const heads = JSON.parse(document.body.dataset.heads);
const asked = document.getElementById("asked");
const notes = document.getElementById("notes");
const table = document.querySelector("table");
const body = document.querySelector("tbody");
const SIGNS = { ok: "✓", stuck: "!", bad: "✗" };
const PING_MS = 15000;
const PONG_MS = 10000;

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

let waits = 250;
let waiting = 0;
let socket;

function follow() {
  clearTimeout(waiting);
  waiting = 0;
  socket = new WebSocket(`${location.origin.replace("http", "ws")}/events`);
  socket.onopen = () => { waits = 250; };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.kind === "class") show(message);
    else { clearTimeout(waiting); waiting = 0; }
  };
  socket.onclose = () => {
    asked.classList.add("lost");
    asked.textContent = words.lost;
    setTimeout(follow, waits);
    waits = Math.min(waits * 2, 5000);
  };
}

// A browser does not notice that a connection is dead: it is asked.
setInterval(() => {
  if (socket.readyState !== WebSocket.OPEN || waiting) return;
  socket.send("ping");
  waiting = setTimeout(() => socket.close(), PONG_MS);
}, PING_MS);
follow();
