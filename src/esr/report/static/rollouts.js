// The reader of responses: filters, the choice of a problem, and the panel of the token in hand.
// Whatever a model wrote is put in with textContent.
const block = document.getElementById("data-rollouts");
if (!block) return;
const { rollouts, strings, cap } = JSON.parse(block.textContent);
const reader = document.getElementById("reader");
const pick = document.getElementById("rollouts-problem");
const place = document.getElementById("rollouts-responses");
const panel = document.getElementById("rollouts-panel");
const count = document.getElementById("rollouts-count");
const wanted = { grade: "all", model: "all" };
const several = new Set(rollouts.map((r) => r.run)).size > 1;
const grades = new Map([[true, "right"], [false, "wrong"], [null, "not graded"]]);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
const heat = (nats) => Math.sqrt(Math.min(1, Math.max(nats, 0) / cap)).toFixed(2);
const marked = (text) => text.replace(/\r\n?/g, "\n").replace(/\n/g, "↵\n");
const inLine = (text) => text.replace(/\r\n?|\n/g, "↵").replace(/ /g, "␣");
const nats = (value) => (value === null ? "–" : `${value.toFixed(3)} nats`);
const percent = (value) => `${(100 * value).toFixed(1)}%`;
const key = (r) => JSON.stringify([r.run, r.problem]);

function matches(r) {
  const grade = { right: true, wrong: false, ungraded: null }[wanted.grade];
  return (wanted.grade === "all" || r.right === grade) && (wanted.model === "all" || r.model === wanted.model);
}

// The problems with at least one response that passes; the chosen one stays chosen if it can.
function list() {
  const before = pick.value;
  const problems = new Map(rollouts.filter(matches).map((r) => [key(r), r]));
  pick.replaceChildren(...Array.from(problems, ([value, r]) => {
    const option = element("option", "", (several ? `${r.run}: ` : "") + r.problem);
    option.value = value;
    return option;
  }));
  if (problems.has(before)) pick.value = before;
  pick.disabled = problems.size === 0;
  read();
}

function read() {
  const shown = rollouts.filter((r) => matches(r) && key(r) === pick.value);
  const passing = rollouts.filter(matches).length;
  count.textContent = `${shown.length} shown; ${passing} of ${rollouts.length} responses pass the filters.`;
  place.replaceChildren(...shown.slice(0, 1).map(question), ...shown.map(article));
  if (!shown.length) place.append(element("p", "missing", "No response passes both filters."));
  hint();
}

function question(r) {
  const made = element("p", "question");
  made.append(element("span", "problem", r.problem), r.question);
  return made;
}

function article(r) {
  const made = element("article");
  const end = r.finished ? "" : ", cut by the length limit";
  const state = element("p", "state");
  state.append(element("b", "", `${r.model} training`), ` · ${grades.get(r.right)} · ${r.tokens.length} tokens${end}`);
  const tokens = element("div", "tokens");
  tokens.setAttribute("role", "group");
  tokens.setAttribute("aria-label", `Tokens of the response ${r.model} training`);
  const spans = r.tokens.map((row, i) => token(r, row, i));
  tokens.append(...spans);
  wire(tokens, spans, r);
  made.append(state, tokens);
  return made;
}

function token(r, row, i) {
  const span = element("span", "tok", marked(strings[row[0]]));
  if (r.finished && i === r.tokens.length - 1) span.classList.add("end");
  if (i === r.n - 1) span.classList.add("last-in");
  span.style.setProperty("--a", heat(row[1]));
  span.tabIndex = i === 0 ? 0 : -1;
  span.dataset.i = String(i);
  return span;
}

// One token of a response is in the tab order; the arrow keys move from there.
function wire(tokens, spans, r) {
  const at = (event) => (event.target.dataset.i === undefined ? -1 : Number(event.target.dataset.i));
  const show = (event) => { if (at(event) >= 0) tell(r, spans, at(event)); };
  tokens.addEventListener("pointerover", show);
  tokens.addEventListener("focusin", (event) => {
    show(event);
    for (const span of spans) span.tabIndex = -1;
    event.target.tabIndex = 0;
  });
  tokens.addEventListener("keydown", (event) => {
    const to = target(event.key, at(event), spans);
    if (to === null) return;
    event.preventDefault();
    spans[to].focus();
  });
}

function target(pressed, i, spans) {
  const last = spans.length - 1;
  if (pressed === "ArrowRight") return Math.min(i + 1, last);
  if (pressed === "ArrowLeft") return Math.max(i - 1, 0);
  if (pressed === "Home") return 0;
  if (pressed === "End") return last;
  if (pressed === "ArrowDown") return line(spans, i, 1);
  if (pressed === "ArrowUp") return line(spans, i, -1);
  return null;
}

// The token nearest in the next line, up or down.
function line(spans, i, way) {
  const place = (j) => spans[j].getClientRects()[0] || spans[j].getBoundingClientRect();
  const from = place(i);
  let best = i;
  let top = null;
  for (let j = i + way; j >= 0 && j < spans.length; j += way) {
    const box = place(j);
    if (Math.abs(box.top - from.top) < box.height / 2) continue;
    if (top === null) { top = box.top; best = j; }
    if (Math.abs(box.top - top) > box.height / 2) break;
    if (Math.abs(box.left - from.left) < Math.abs(place(best).left - from.left)) best = j;
  }
  return best;
}

function hint() {
  panel.replaceChildren(element("p", "place", "Point at a token, or press Tab to reach one and move with the arrow keys."));
}

function tell(r, spans, i) {
  const [text, kl, studentEntropy, teacherEntropy, studentRank, teacherRank, student, teacher, parts] = r.tokens[i];
  for (const now of reader.querySelectorAll(".now")) now.classList.remove("now");
  spans[i].classList.add("now");
  const facts = element("dl");
  for (const [name, value] of [
    ["reverse KL", nats(kl)], ["student's rank", studentRank], ["student's entropy", nats(studentEntropy)],
    ["teacher's rank", teacherRank], ["teacher's entropy", nats(teacherEntropy)],
    ...(parts ? [["student's tokens", inLine(parts[0])], ["teacher's tokens", inLine(parts[1])]] : []),
  ]) facts.append(element("dt", "", name), element("dd", "", String(value)));
  const tops = element("div", "tops");
  tops.append(top("Student", "c1", student, text), top("Teacher", "c2", teacher, text));
  panel.replaceChildren(
    element("p", "which", inLine(strings[text])), element("p", "place", `token ${i + 1} of ${r.tokens.length}`), facts, tops,
  );
}

function top(title, colour, pairs, sampled) {
  const made = element("div", colour);
  const rows = element("ol");
  for (let j = 0; j < pairs.length; j += 2) {
    const row = element("li", pairs[j] === sampled ? "sampled" : "");
    row.style.setProperty("--w", percent(pairs[j + 1]));
    row.append(element("code", "", inLine(strings[pairs[j]])), element("span", "", percent(pairs[j + 1])));
    rows.append(row);
  }
  made.append(element("h4", "", title), rows);
  return made;
}

for (const group of reader.querySelectorAll("[data-filter]")) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || button.disabled) return;
    wanted[group.dataset.filter] = button.dataset.value;
    for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    list();
  });
}
pick.addEventListener("change", read);
list();
