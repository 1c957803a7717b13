// One dialog for questions and for help. The browser keeps the focus in it, and Escape closes it.
import { element, rememberFocus, words } from "./parts.js";

const dialog = document.getElementById("dialog");
const text = document.getElementById("question");
const answers = document.getElementById("answers");

// The event comes a moment after: the dialog may be open for another question by then.
function whenClosed(call) {
  dialog.addEventListener("close", function closed() {
    if (dialog.open) return;
    dialog.removeEventListener("close", closed);
    call();
  });
}

function open(lines, buttons) {
  text.replaceChildren(...lines.map((line) => element("p", {}, line)));
  answers.replaceChildren(...buttons);
  whenClosed(rememberFocus(document.querySelector("main")));
  dialog.showModal();
}

// Whether the user pressed the button that is named as what will be done.
export function ask(question, verb) {
  return new Promise((resolve) => {
    let isYes = false; // of this question, and no other that is asked before it is told
    const yes = element("button", { className: "first", autofocus: true, onclick: () => { isYes = true; } }, verb);
    open([question], [yes, element("button", {}, words.cancel)]);
    whenClosed(() => resolve(isYes));
  });
}

export function tell(lines) {
  open(lines, [element("button", { autofocus: true }, words.close_dialog)]);
}
