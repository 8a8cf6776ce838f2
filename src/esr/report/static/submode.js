// The student's peak that the reader drags; both divergences and their slopes are exact sums over the bins.
const settings = JSON.parse(document.getElementById("data-toy")?.textContent ?? "null");
if (!settings) return;
const { bins, teacher, places, nats: tallest, most, box } = settings;
const toy = document.getElementById("toy");
const picture = toy.querySelector(".toy");
const inputs = { place: document.getElementById("toy-place"), width: document.getElementById("toy-width") };
let place = settings.place;
let width = settings.width;

const every = Array.from({ length: bins }, (_, i) => i);
const sum = (f) => every.reduce((total, i) => total + f(i), 0);
const x = (at) => box.left + ((box.right - box.left) * at) / (bins - 1);
const klHeight = (value) => box.low - (box.low - box.high) * Math.min(value / tallest, 1.04);
const within = (value, [low, high]) => Math.min(high, Math.max(low, value));

function divergences(at, wide) {
  const logits = every.map((i) => -((i - at) ** 2) / (2 * wide ** 2));
  const total = Math.log(sum((i) => Math.exp(logits[i])));
  const logP = logits.map((v) => v - total);
  const p = logP.map(Math.exp);
  const gap = logP.map((v, i) => v - Math.log(teacher[i]));
  const mean = sum((i) => (p[i] * (i - at)) / wide ** 2);
  const score = every.map((i) => (i - at) / wide ** 2 - mean);
  return {
    p,
    forward: -sum((i) => teacher[i] * gap[i]), forwardSlope: -sum((i) => teacher[i] * score[i]),
    reverse: sum((i) => p[i] * gap[i]), reverseSlope: sum((i) => p[i] * score[i] * gap[i]),
  };
}

function outline(p) {
  const y = (v) => box.foot - box.tall * Math.min(1, v / most);
  const top = p.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join("L");
  return `M${x(0).toFixed(1)},${box.foot}L${top}L${x(bins - 1).toFixed(1)},${box.foot}Z`;
}

function curve(kind) {
  let path = "";
  let drawing = false;
  for (let step = Math.round(5 * places[0]); step <= Math.round(5 * places[1]); step += 1) {
    const value = divergences(step / 5, width)[kind];
    const inside = value <= tallest;
    if (inside) path += `${drawing ? "L" : "M"}${x(step / 5).toFixed(1)},${klHeight(value).toFixed(1)}`;
    drawing = inside;
  }
  return path;
}

function say(id, value, text) {
  const output = document.getElementById(id);
  output.dataset.value = String(value);
  output.textContent = text;
}

function draw() {
  const now = divergences(place, width);
  picture.querySelector(".student").setAttribute("d", outline(now.p));
  const stem = picture.querySelector(".stem");
  for (const end of ["x1", "x2"]) stem.setAttribute(end, x(place).toFixed(1));
  for (const kind of ["forward", "reverse"]) {
    picture.querySelector(`path[data-kind="${kind}"]`).setAttribute("d", curve(kind));
    const dot = picture.querySelector(`circle[data-kind="${kind}"]`);
    dot.setAttribute("cx", x(place).toFixed(1));
    dot.setAttribute("cy", klHeight(now[kind]).toFixed(1));
    const slope = now[`${kind}Slope`];
    const still = Math.abs(slope) < 0.0005;
    say(`toy-${kind}`, now[kind], now[kind].toFixed(3));
    say(`toy-${kind}-slope`, slope, still ? "0.000" : (slope > 0 ? "+" : "−") + Math.abs(slope).toFixed(3));
    say(`toy-${kind}-moves`, -Math.sign(slope), still ? "rests" : slope > 0 ? "left" : "right");
  }
  inputs.place.value = String(place);
  inputs.place.setAttribute("aria-valuetext", `outcome ${place.toFixed(1)} of ${bins - 1}`);
  inputs.width.setAttribute("aria-valuetext", width.toFixed(1));
}

// Descent: the place follows the slope downhill; at once where the reader wants no motion.
let moving = 0;
const stop = () => { cancelAnimationFrame(moving); };
const downhill = (kind) => { place = within(place - 0.8 * divergences(place, width)[`${kind}Slope`], places); };
function descend(kind) {
  stop();
  if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) {
    for (let i = 0; i < 2000; i += 1) downhill(kind);
    draw();
    return;
  }
  const step = () => {
    const before = place;
    for (let i = 0; i < 3; i += 1) downhill(kind);
    draw();
    if (Math.abs(place - before) > 0.0005) moving = requestAnimationFrame(step);
  };
  step();
}

inputs.place.addEventListener("input", () => { stop(); place = Number(inputs.place.value); draw(); });
inputs.width.addEventListener("input", () => { stop(); width = Number(inputs.width.value); draw(); });
for (const button of toy.querySelectorAll("[data-descend]")) {
  button.addEventListener("click", () => descend(button.dataset.descend));
}

function follow(event) {
  const rect = picture.getBoundingClientRect();
  const at = ((event.clientX - rect.left) / rect.width) * picture.viewBox.baseVal.width;
  place = within(((at - box.left) / (box.right - box.left)) * (bins - 1), places);
  draw();
}
picture.classList.add("live");
picture.addEventListener("pointerdown", (event) => {
  stop();
  picture.setPointerCapture(event.pointerId);
  picture.classList.add("held");
  follow(event);
});
picture.addEventListener("pointermove", (event) => { if (picture.classList.contains("held")) follow(event); });
for (const end of ["pointerup", "pointercancel"]) {
  picture.addEventListener(end, () => picture.classList.remove("held"));
}

// Real positions: one at a time.
for (const group of document.querySelectorAll(".positions")) {
  const pick = group.querySelector("select");
  const positions = Array.from(group.querySelectorAll(".position"));
  group.querySelector(".more")?.remove();
  group.append(...positions);
  const show = () => { for (const p of positions) p.hidden = p.dataset.index !== pick.value; };
  pick.addEventListener("change", show);
  show();
}
