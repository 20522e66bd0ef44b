(() => {
  const tip = document.getElementById("tip");
  const show = (event) => {
    const mark = event.target.closest && event.target.closest("figure [role=graphics-symbol][aria-label]");
    tip.classList.toggle("on", Boolean(mark));
    if (!mark) return;
    tip.textContent = mark.getAttribute("aria-label");
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const y = event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18;
    tip.style.transform = `translate(${Math.max(4, x)}px, ${y}px)`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);

  const form = document.getElementById("filters");
  if (!form) return;
  const rows = [...document.querySelectorAll("details.example")];
  const shown = document.getElementById("shown");
  const apply = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.words.toLowerCase();
    let n = 0;
    for (const row of rows) {
      const fits = ["outcome", "level", "type"].every((name) => !wanted[name] || row.dataset[name] === wanted[name])
        && (!words || row.textContent.toLowerCase().includes(words));
      row.hidden = !fits;
      n += fits;
    }
    shown.textContent = `${n} shown`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
})();
