// The window in a real rollout: full or early-stopped, coloured by one of three measures.
const frame = document.getElementById("window");
if (!frame) return;
const says = document.getElementById("window-says");
const measure = document.getElementById("window-measure");
const mean = document.getElementById("window-mean");
const template = (key, value) => frame.querySelector(`template[data-${key}="${value}"]`);

function update() {
  says.replaceChildren(template("state", frame.dataset.state).content.cloneNode(true));
  const by = template("by", frame.dataset.by);
  measure.textContent = by.dataset.name;
  mean.replaceChildren(by.content.cloneNode(true));
}

for (const group of frame.querySelectorAll("[data-set]")) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    frame.dataset[group.dataset.set] = button.dataset.value;
    for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    update();
  });
}
