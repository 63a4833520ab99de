"use strict";
// Without this script the page shows all boards one below the other; with it, one board at a time.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const boards = all(".board");
  const details = JSON.parse(document.getElementById("details").textContent);

  // ---- selection of the board
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  const modelsOf = (variant) => boards.filter((b) => b.dataset.variant === variant).map((b) => b.dataset.model);
  const show = (variant, model, remember) => {
    const there = modelsOf(variant);
    if (!there.includes(model)) model = there[0];
    for (const board of boards) board.hidden = board.dataset.variant !== variant || board.dataset.model !== model;
    for (const input of all('input[name="variant"]')) input.checked = input.value === variant;
    for (const input of all('input[name="model"]')) {
      input.disabled = !there.includes(input.value);
      input.checked = input.value === model;
    }
    fit();
    if (remember) history.replaceState(null, "", `#${encodeURIComponent(variant)}/${encodeURIComponent(model)}`);
  };
  const fromAddress = () => {
    const [variant, model] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (boards.some((b) => b.dataset.variant === variant)) return show(variant, model, false);
    const target = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
    const board = target && target.closest(".board");
    if (board && board.hidden) { show(board.dataset.variant, board.dataset.model, false); target.scrollIntoView(); }
  };
  // A table that is wider than its frame scrolls inside it; otherwise its head sticks to the window.
  const fit = () => {
    for (const frame of all(".frame.big")) {
      if (frame.closest(".board").hidden) continue;
      frame.classList.remove("scrolls");
      frame.classList.toggle("scrolls", frame.querySelector("table").offsetWidth > frame.clientWidth + 1);
    }
  };
  for (const input of all("[data-switch] input")) {
    input.addEventListener("change", () => show(chosen("variant"), chosen("model"), true));
  }
  addEventListener("hashchange", fromAddress);
  addEventListener("resize", fit);

  // ---- light or dark theme, or that of the system
  const themes = ["auto", "light", "dark"];
  const toggle = document.querySelector("[data-theme-next]");
  const store = (value) => { try { localStorage.setItem("an8flower-theme", value); } catch { /* storage is not allowed */ } };
  const paint = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    toggle.textContent = `Theme: ${theme}`;
  };
  let theme = "auto";
  try { theme = localStorage.getItem("an8flower-theme") || "auto"; } catch { /* storage is not allowed */ }
  if (!themes.includes(theme)) theme = "auto";
  paint(theme);
  toggle.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    paint(theme);
    store(theme);
  });

  // ---- highlight a row with its lines, points and tiles
  const lights = (board) => {
    let pinned = null;
    const light = (row) => {
      const lit = row ?? pinned;
      board.classList.toggle("has-lit", lit !== null && all(`svg [data-row="${lit}"]`, board).length > 0);
      for (const element of all(".lit", board)) element.classList.remove("lit");
      if (lit !== null) for (const element of all(`[data-row="${lit}"]`, board)) element.classList.add("lit");
    };
    const rowOf = (target) => target.closest?.("[data-row]")?.dataset.row ?? null;
    board.addEventListener("pointerover", (event) => light(rowOf(event.target)));
    board.addEventListener("pointerleave", () => light(null));
    board.addEventListener("focusin", (event) => light(rowOf(event.target)));
    board.addEventListener("click", (event) => {
      const row = rowOf(event.target);
      if (row === null || event.target.closest(".open")) return;
      pinned = pinned === row ? null : row;
      for (const button of all(".legend button", board)) button.setAttribute("aria-pressed", button.dataset.row === pinned);
      light(pinned);
    });
  };

  // ---- sorting and filtering
  const valueOf = (row, by) => {
    if (by === "rank") return row.querySelector("td.rank").dataset.v;
    if (by === "name") return row.querySelector("th.name").dataset.v;
    return row.cells[Number(by) + 3].dataset.v;
  };
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // empty cells come last in both orders
    const numbers = [Number(a), Number(b)];
    if (numbers.every((number) => !Number.isNaN(number))) return sign * (numbers[0] - numbers[1]);
    return sign * ((a > b) - (a < b));
  };
  const table = (board) => {
    const body = board.querySelector(".main tbody");
    const rows = [...body.rows];
    for (const button of all(".main thead button", board)) {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const before = head.getAttribute("aria-sort");
        const other = { ascending: "descending", descending: "ascending" };
        const way = before === "none" ? button.dataset.first : other[before];
        for (const cell of all(".main thead th", board)) cell.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", way);
        const sign = way === "ascending" ? 1 : -1;
        const by = button.dataset.sort;
        rows.sort((a, b) => compare(valueOf(a, by), valueOf(b, by), sign) || a.dataset.row - b.dataset.row);
        body.append(...rows);
      });
    }
    const find = board.querySelector("[data-filter]");
    const roles = all("[data-role-filter]", board);
    const filter = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = new Set(roles.filter((role) => role.checked).map((role) => role.dataset.roleFilter));
      let left = 0;
      for (const row of rows) {
        row.hidden = !wanted.has(row.dataset.role) || !words.every((word) => row.dataset.search.includes(word));
        left += !row.hidden;
      }
      board.querySelector("output.count").textContent = `${left} of ${rows.length} rows`;
    };
    find.addEventListener("input", filter);
    for (const role of roles) role.addEventListener("change", filter);
    const main = board.querySelector(".main");
    for (const box of all("[data-family]", board)) {
      const apply = () => { main.classList.toggle(`show-${box.dataset.family}`, box.checked); fit(); };
      box.addEventListener("change", apply);
      apply();
    }
    filter();
  };

  // ---- dialog with a row's record; text is set as text, never as HTML
  const dialog = document.getElementById("record");
  const put = (tag, text, into) => {
    const element = document.createElement(tag);
    element.textContent = text;
    into.append(element);
    return element;
  };
  const fill = (selector, build) => {
    const place = dialog.querySelector(selector);
    place.replaceChildren();
    build(place);
    return place;
  };
  const open = (board, row) => {
    const about = details[board.id][Number(row.dataset.row)];
    dialog.querySelector("h2").textContent = row.querySelector(".open").textContent;
    dialog.querySelector(".record-place").textContent = `${board.dataset.variant}, ${board.dataset.model}`;
    dialog.querySelector("pre").textContent = about.again;
    dialog.querySelector(".record-again").hidden = !about.again;
    fill(".record-reasons", (place) => { for (const reason of about.reasons) put("li", reason, place); });
    fill(".record-links", (place) => {
      for (const [text, address] of about.links) {
        if (!/^https?:\/\//.test(address)) continue;
        const link = put("a", text, place);
        link.href = address;
        link.rel = "noopener noreferrer";
      }
    });
    fill(".record-facts", (place) => {
      for (const [name, value] of about.facts) { put("dt", name, place); put("dd", value, place); }
    });
    fill("tbody", (place) => {
      for (const fold of about.folds) {
        const line = put("tr", "", place);
        for (const name of ["fold", "seed", "status", "score", "images", "accuracy", "finished", "key"]) put("td", fold[name], line);
      }
    });
    dialog.showModal();
  };
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  // ---- the gallery
  const gallery = (board) => {
    for (const input of all(".picker input", board)) {
      input.addEventListener("change", () => {
        const k = Number(input.value);
        board.querySelector(".gallery").style.setProperty("--k", k);
        for (const sheet of all(".sheet", board)) sheet.hidden = Number(sheet.dataset.picture) !== k;
        for (const tile of all(".tile", board)) {
          const score = tile.dataset.scores.split(" ")[k];
          const image = tile.querySelector("img");
          tile.querySelector("b").textContent = Number(score).toFixed(1);
          tile.querySelector(".fill").style.width = `${score}%`;
          image.alt = `Heatmap of ${image.dataset.name}, IoU-AUC ${Number(score).toFixed(1)} %`;
          for (const use of all("use", tile)) use.setAttribute("href", `#${board.id}-outline-${k}`);
        }
      });
    }
  };

  for (const board of boards) {
    lights(board);
    table(board);
    gallery(board);
    for (const button of all(".open", board)) button.addEventListener("click", () => open(board, button.closest("tr")));
  }
  show(boards[0].dataset.variant, boards[0].dataset.model, false);
  fromAddress();
})();
