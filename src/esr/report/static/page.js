// Theme, panes, the slider of the decay section, tooltips, printing, and the download. The page reads well without any of it.
const root = document.documentElement;
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

for (const element of all(".script-only")) element.hidden = false;

// Theme: system, light, dark. Remembered where the browser allows it.
const themes = ["system", "light", "dark"];
const memory = {
  get() { try { return localStorage.getItem("esr-theme"); } catch { return null; } },
  set(value) { try { localStorage.setItem("esr-theme", value); } catch { /* a file: page may not store */ } },
};
const themeButton = document.getElementById("theme");
function setTheme(theme) {
  if (theme === "system") root.removeAttribute("data-theme");
  else root.setAttribute("data-theme", theme);
  themeButton.textContent = `Theme: ${theme}`;
}
let theme = themes.includes(memory.get()) ? memory.get() : "system";
setTheme(theme);
themeButton.addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  setTheme(theme);
  memory.set(theme);
});

// A page of a training that goes on loads itself again until it is paused; what was opened stays open.
const live = document.getElementById("live");
if (live) {
  const opened = () => all("details").map((part) => part.open);
  try { JSON.parse(sessionStorage.getItem("esr-open") || "[]").forEach((open, i) => { const part = all("details")[i]; if (part) part.open = open; }); } catch { /* a file: page may not store */ }
  let paused = false;
  live.addEventListener("click", () => {
    paused = !paused;
    live.setAttribute("aria-pressed", String(paused));
  });
  setInterval(() => {
    if (paused) return;
    try { sessionStorage.setItem("esr-open", JSON.stringify(opened())); } catch { /* likewise */ }
    location.reload();
  }, 1000 * Number(document.body.dataset.refresh));
}

// Panes: buttons that show one at a time.
for (const group of all(".panes")) {
  const panes = all(":scope > .pane", group);
  if (panes.length < 2) continue;
  const choose = document.createElement("div");
  choose.className = "choose";
  choose.setAttribute("role", "group");
  choose.setAttribute("aria-label", `Choose: ${group.dataset.panes}`);
  const buttons = panes.map((pane) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = pane.dataset.label;
    button.addEventListener("click", () => show(pane));
    choose.append(button);
    const title = pane.querySelector(".pane-title");
    if (title) title.hidden = true;
    return button;
  });
  function show(chosen) {
    panes.forEach((pane, i) => {
      pane.hidden = pane !== chosen;
      buttons[i].setAttribute("aria-pressed", String(pane === chosen));
    });
  }
  group.prepend(choose);
  show(panes[0]);
}

// Layers of a chart: the controls on demand, the published values until they are switched off.
for (const drawing of all(".drawing")) {
  const names = [...new Set(all("[data-layer]", drawing).map((part) => part.dataset.layer))];
  if (!names.length) continue;
  const layers = document.createElement("div");
  layers.className = "layers";
  for (const name of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name === "published" ? "published values" : name;
    const show = (on) => {
      button.setAttribute("aria-pressed", String(on));
      for (const part of all(`[data-layer="${name}"]`, drawing)) part.toggleAttribute("hidden", !on);
    };
    button.addEventListener("click", () => show(button.getAttribute("aria-pressed") !== "true"));
    show(name === "published");
    layers.append(button);
  }
  drawing.append(layers);
}

// Decay: a slider over the measured prefix lengths moves the window and says what lies inside it.
for (const slider of all(".slider")) {
  const input = slider.querySelector("input");
  const output = slider.querySelector("output");
  const steps = all("template", slider);
  const chart = document.getElementById(slider.dataset.chart);
  input.addEventListener("input", () => {
    const step = steps[Number(input.value)];
    const k = Number(step.dataset.k);
    output.replaceChildren(step.content.cloneNode(true));
    input.setAttribute("aria-valuetext", `N = ${k}`);
    for (const picture of all(".chart", chart)) {
      const [x0, x1, low, high] = ["x0", "x1", "low", "high"].map((key) => Number(picture.dataset[key]));
      picture.querySelector(".window").setAttribute("width", String(((x1 - x0) * (k - low)) / (high - low)));
      picture.querySelector(".window-name").textContent = `inside N = ${k}`;
    }
  });
  input.setAttribute("aria-valuetext", `N = ${steps[Number(input.value)].dataset.k}`);
}

// Tooltips: the title of a point, at once and in the page's type.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
for (const point of all(".pt")) {
  const title = point.querySelector("title");
  if (!title) continue;
  const text = title.textContent;
  point.addEventListener("pointerenter", () => {
    title.textContent = "";
    tip.textContent = text;
    tip.hidden = false;
    const box = (point.querySelector(".mark") || point).getBoundingClientRect();
    const left = Math.min(box.left + box.width / 2, root.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left) + window.scrollX}px`;
    tip.style.top = `${box.top + window.scrollY - tip.offsetHeight - 8}px`;
  });
  point.addEventListener("pointerleave", () => {
    title.textContent = text;
    tip.hidden = true;
  });
}

// The section in view is marked in the navigation.
const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const section of all("main > section")) observer.observe(section);

// On paper everything is open.
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = all("details:not([open])");
  for (const details of closed) details.open = true;
});
window.addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});

// Every number as one JSON file: the records, and the blocks that sections keep for themselves.
document.getElementById("download")?.addEventListener("click", () => {
  const blocks = all('script[type="application/json"]').map((block) => [block.id.replace(/^data-/, ""), JSON.parse(block.textContent)]);
  const blob = new Blob([JSON.stringify(Object.fromEntries(blocks), null, 1)], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "esr-report.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
