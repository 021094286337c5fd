// What makes the console fresher and quicker. Everything works without it. Behaviours are named by
// data- attributes, which never hold code or addresses to call.
"use strict";

(() => {
  const $ = (selector) => document.querySelector(selector);
  const main = () => $("#main");
  // The one place where text becomes HTML: what this server sent for its own page.
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("posthaste", { createHTML: (html) => html })
    : { createHTML: (html) => html };

  // Choices that this browser keeps. Storage may be forbidden; then they last as long as the page.
  const kept = {
    get(name) {
      try { return localStorage.getItem("posthaste." + name); } catch { return null; }
    },
    set(name, value) {
      try { localStorage.setItem("posthaste." + name, value); } catch { /* as above */ }
    },
  };

  // --- Theme -----------------------------------------------------------------------------------
  const themes = ["system", "light", "dark"];
  function theme(name) {
    if (name === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", name);
    const button = $("#theme");
    if (button) button.textContent = `Theme: ${name}`;
  }
  function nextTheme() {
    const name = themes[(themes.indexOf(kept.get("theme") || "system") + 1) % themes.length];
    kept.set("theme", name);
    theme(name);
  }
  theme(themes.includes(kept.get("theme")) ? kept.get("theme") : "system");

  // --- Times -----------------------------------------------------------------------------------
  const two = (number) => String(number).padStart(2, "0");
  function written(date, local) {
    if (!local) return date.toISOString().slice(0, 19).replace("T", " ");
    return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
      `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  }
  function zone() {
    const local = kept.get("zone") === "local";
    const button = $("#zone");
    if (button) {
      const name = Intl.DateTimeFormat().resolvedOptions().timeZone || "Local";
      button.textContent = local ? name.split("/").pop().replaceAll("_", " ") : "UTC";
    }
    for (const time of document.querySelectorAll("time[datetime]")) {
      const date = new Date(time.dateTime);
      if (!Number.isNaN(date.getTime())) time.textContent = written(date, local)
        .slice("short" in time.dataset ? 5 : 0);
    }
  }
  function nextZone() {
    kept.set("zone", kept.get("zone") === "local" ? "utc" : "local");
    zone();
  }

  // --- Messages --------------------------------------------------------------------------------
  function say(text, isStale) {
    const notice = document.createElement("p");
    notice.className = isStale ? "notice stale" : "notice";
    notice.textContent = text;
    $("#notices").replaceChildren(notice);
  }
  function unsay() {
    const stale = $("#notices .stale");
    if (stale) stale.remove();
  }
  // The address that somebody copies says where they are, and not what they just did.
  const here = new URL(location.href);
  if (here.searchParams.has("notice")) {
    here.searchParams.delete("notice");
    history.replaceState(null, "", here);
  }

  // --- Copying ---------------------------------------------------------------------------------
  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Over plain HTTP there is no clipboard: the old way.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say(`Copied ${what}.`);
  }

  // Where keys write. A box is a field as well, but nobody writes in it.
  const fields = "input:not([type=checkbox]), select, textarea";

  // --- Rows that are selected ------------------------------------------------------------------
  const checked = () => [...document.querySelectorAll("td.select input:checked")];
  let lastBox = null;
  function countSelected() {
    const count = $("#count");
    if (!count) return;
    const many = checked().length;
    count.hidden = false;
    count.textContent = String(many);
    for (const button of document.querySelectorAll("#selected button")) {
      button.disabled = many === 0;
    }
  }
  function select(toHere) {
    const row = currentRow();
    const box = row && row.querySelector("td.select input");
    if (!box) return;
    const all = [...document.querySelectorAll("td.select input")];
    const from = all.indexOf(lastBox);
    if (toHere && from >= 0) {
      const at = all.indexOf(box);
      for (const one of all.slice(Math.min(from, at), Math.max(from, at) + 1)) {
        one.checked = lastBox.checked;
      }
    } else {
      box.checked = !box.checked;
      lastBox = box;
    }
    countSelected();
  }

  // --- Questions -------------------------------------------------------------------------------
  // What a page without a script asks on a page of its own is asked in a dialog.
  async function question(link) {
    const dialog = $("#ask");
    try {
      const answer = await fetch(link.href, {
        headers: { "Posthaste-Part": "main" }, cache: "no-store",
        signal: AbortSignal.timeout(10_000), redirect: "error",
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const html = policy.createHTML(await answer.text());
      const asked = new DOMParser().parseFromString(html, "text/html").querySelector("main");
      if (!asked || !asked.querySelector("form[method=post]")) throw new Error("no question");
      dialog.replaceChildren(...asked.childNodes);
      const title = dialog.querySelector("h1");
      if (title) dialog.setAttribute("aria-label", title.textContent);
      prepared(dialog);
      dialog.showModal();
    } catch {
      location.href = link.href;
    }
  }

  // --- The script of a transform ---------------------------------------------------------------
  function editor() {
    const area = $("#script");
    if (!area) return;
    const gutter = area.parentElement.querySelector(".gutter");
    const number = () => {
      const lines = area.value.split("\n").length;
      gutter.textContent = Array.from({ length: lines }, (_, at) => at + 1).join("\n");
      gutter.scrollTop = area.scrollTop;
    };
    area.addEventListener("input", number);
    area.addEventListener("scroll", () => { gutter.scrollTop = area.scrollTop; });
    number();
    if (!area.dataset.line) return;
    const lines = area.value.split("\n").slice(0, Number(area.dataset.line));
    const last = Array.from(lines.pop() || "").slice(0, Number(area.dataset.column) - 1).join("");
    const place = lines.reduce((sum, line) => sum + line.length + 1, 0) + last.length;
    area.focus();
    area.setSelectionRange(place, Math.min(place + 1, area.value.length));
  }

  // --- Staying fresh ---------------------------------------------------------------------------
  const live = { tag: null, timer: 0, wait: 0, paused: false, since: null };
  const seconds = () => Number($("#live") ? $("#live").value : 0);
  const isBusy = () => {
    const at = document.activeElement;
    const typing = at && main().contains(at) && at.matches(fields);
    const selected = String(getSelection() || "") !== "" || checked().length > 0;
    const open = document.querySelector("main details[open], dialog[open]");
    return typing || selected || open;
  };
  function plan() {
    clearTimeout(live.timer);
    if (!main().hasAttribute("data-live") || !seconds() || live.paused || document.hidden) return;
    live.timer = setTimeout(refresh, Math.max(live.wait, seconds() * 1000));
  }
  function prepared(root) {
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
    countSelected();
    zone();
  }
  async function refresh() {
    if (isBusy()) return plan();
    const began = performance.now();
    try {
      const headers = { "Posthaste-Part": "main" };
      if (live.tag) headers["If-None-Match"] = live.tag;
      const answer = await fetch(location.href, {
        headers, cache: "no-store", signal: AbortSignal.timeout(10_000), redirect: "error",
      });
      if (answer.status === 401) {
        main().classList.add("stale");
        live.paused = true;
        say("You are signed out. Reload the page to sign in.", true);
        return;
      }
      if (!answer.ok && answer.status !== 304) throw new Error(String(answer.status));
      if (answer.status !== 304 && !isBusy()) {
        live.tag = answer.headers.get("ETag");
        const html = policy.createHTML(await answer.text());
        const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("main");
        // While it was on its way somebody may have gone on, or it is not what was asked for.
        if (fresh && !isBusy()) morph(fresh);
      }
      live.since = null;
      main().classList.remove("stale");
      unsay();
      // A slow answer is asked for more seldom.
      live.wait = performance.now() - began > 1000 ? Math.min(60_000, (live.wait || 5000) * 2) : 0;
    } catch {
      live.since = live.since || new Date();
      live.wait = Math.min(60_000, (live.wait || 2500) * 2);
      main().classList.add("stale");
      const at = written(live.since, kept.get("zone") === "local").slice(11);
      say(`No answer since ${at}. What you see is from before; it is tried again.`, true);
    }
    plan();
  }
  function morph(fresh) {
    const row = main().querySelector("tr.here");
    window.Idiomorph.morph(main(), fresh, { ignoreActiveValue: true });
    prepared(main());
    const same = row && row.id && document.getElementById(row.id);
    if (same) same.classList.add("here");
  }
  function pause() {
    live.paused = !live.paused;
    say(live.paused ? "Refreshing is paused." : "Refreshing goes on.");
    plan();
  }

  // --- Keys ------------------------------------------------------------------------------------
  const rows = () => [...main().querySelectorAll("tr[data-row]")];
  const currentRow = () => main().querySelector("tr.here");
  function step(by) {
    const all = rows();
    if (!all.length) return;
    const at = all.indexOf(currentRow());
    const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    for (const row of all) row.classList.toggle("here", row === next);
    const link = next.querySelector("a");
    if (link) link.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
  function follow(selector) {
    const link = $(selector);
    if (link) link.click();
  }
  function toId() {
    const place = currentRow() || main();
    const id = place.querySelector("[data-id]");
    if (id) copy(id.dataset.id, "the id");
  }
  const keys = {
    "?": () => $("#help") && $("#help").showModal(),
    "/": () => $("#goto") && $("#goto").focus(),
    f: () => {
      const box = $("#filters");
      if (!box) return;
      box.open = true;
      const field = box.querySelector("input:not([type=hidden]), select");
      if (field) field.focus();
    },
    j: () => step(1),
    k: () => step(-1),
    "[": () => follow(".pager [rel=first]"),
    "]": () => follow(".pager [rel=next]"),
    x: () => select(false),
    X: () => select(true),
    r: () => follow(".headline form[action*='/retry'] button, .headline a[href*='/retry']"),
    c: () => follow(".headline a[href*='/cancel']"),
    y: toId,
    Y: () => copy(location.href, "the link"),
    z: nextZone,
    t: nextTheme,
    p: pause,
  };
  let going = false;
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    const inField = at instanceof Element && at.matches(fields);
    if (inField && event.key === "Escape") at.blur();
    if (inField || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (kept.get("keys") === "off") return;
    if (going) {
      going = false;
      follow(`.rail a[data-key="${CSS.escape(event.key)}"]`);
      return;
    }
    if (event.key === "g") {
      going = true;
      setTimeout(() => { going = false; }, 1500);
      return;
    }
    const does = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (does) {
      event.preventDefault();
      does();
    }
  });

  // --- Everything together ---------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const at = event.target instanceof Element ? event.target : null;
    const button = at && at.closest("[data-copy]");
    if (button) copy(button.dataset.copy, "it");
    if (at && at.matches("td.select input")) {
      lastBox = at;
      countSelected();
    }
    const plainClick = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
    const asks = at && at.closest("a[data-question]");
    if (asks && plainClick) {
      event.preventDefault();
      question(asks);
    }
    // The way back from a dialog is to close it.
    if (at && at.closest("dialog a.button[data-back]")) {
      event.preventDefault();
      $("#ask").close();
    }
  });
  // A second click does nothing more.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") {
      // Filters that are not set are not in the address that somebody copies.
      for (const field of event.target.elements) {
        if (field.name && field.value === "") field.disabled = true;
      }
      return;
    }
    if (event.target.dataset.sent) return event.preventDefault();
    event.target.dataset.sent = "1";
  });
  addEventListener("pageshow", () => {
    countSelected();
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const field of document.querySelectorAll("form[method=get] :disabled")) {
      field.disabled = false;
    }
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? plan() : refreshSoon()));
  function refreshSoon() {
    clearTimeout(live.timer);
    if (main().hasAttribute("data-live") && seconds() && !live.paused) refresh();
  }

  const tools = $(".tools");
  if (tools) {
    tools.hidden = false;
    const chosen = kept.get("live");
    if ([...$("#live").options].some((option) => option.value === chosen)) $("#live").value = chosen;
    $("#live").addEventListener("change", () => { kept.set("live", $("#live").value); plan(); });
    $("#zone").addEventListener("click", nextZone);
    $("#theme").addEventListener("click", nextTheme);
    $("#help-close").addEventListener("click", () => $("#help").close());
    $("#keys").checked = kept.get("keys") !== "off";
    $("#keys").addEventListener("change", () => kept.set("keys", $("#keys").checked ? "on" : "off"));
    const ends = $("#ends");
    const left = new Date(ends ? ends.dataset.ends : 0).getTime() - Date.now() - 120_000;
    // A timer longer than this would run at once.
    if (left > 0 && left < 2 ** 31) {
      setTimeout(() => say("You are signed out in 2 minutes. Sign in again to stay.", true), left);
    }
    theme(themes.includes(kept.get("theme")) ? kept.get("theme") : "system");
    prepared(document);
    editor();
    countSelected();
    const result = $("#outlook");
    if (result) result.focus();
    plan();
  }
})();
