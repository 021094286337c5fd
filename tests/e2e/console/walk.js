// Walks through the console as people do. What it is told comes as JSON on stdin; it ends with 1 and
// says what was wrong.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const told = JSON.parse(fs.readFileSync(0, "utf8"));
const { url, things } = told;
const wrong = [];
const check = (holds, what) => { if (!holds) wrong.push(what); };

async function signIn(page, next) {
  await page.goto(`${url}/console/login?next=${encodeURIComponent(next)}`);
  await page.fill("#key", told.key);
  await page.click("button[type=submit]");
  await page.waitForURL(`${url}${next}`);
}

// What must never happen on any page.
function watch(page) {
  page.on("pageerror", (error) => wrong.push(`${page.url()}: ${error}`));
  page.on("console", (message) => {
    const text = message.text();
    // An answer that says no is what some steps ask for.
    const expected = /Failed to load resource/.test(text);
    if (["error", "warning"].includes(message.type()) && !expected) wrong.push(`${page.url()}: ${text}`);
  });
  page.on("dialog", (dialog) => { wrong.push(`${page.url()}: a script ran`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/console`)) wrong.push(`${page.url()} asks ${request.url()}`);
  });
}

const WIDTHS = [1280, 560, 320];

// What holds for a page in whatever state: it has the width of the window, and axe finds nothing.
// The policy lets no foreign script in, so axe comes by the debugger's way.
async function inspect(page, name, scheme) {
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: width === 1280 ? 760 : 800 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    check(wide <= width, `${name} at ${width}, ${scheme}: scrolls sideways, ${wide}`);
    await page.evaluate(axe);
    const found = await page.evaluate(async () => {
      const result = await window.axe.run(document, { resultTypes: ["violations"] });
      return result.violations.flatMap((rule) => rule.nodes.map((node) =>
        `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
    });
    for (const one of found) wrong.push(`${name} at ${width}, ${scheme}: ${one}`);
    if (told.screenshots) {
      const file = path.join(told.screenshots, `${name}-${width}-${scheme}.png`);
      await page.screenshot({ path: file, fullPage: width !== 1280 });
    }
  }
}

// Every page, in light and dark, at three widths.
async function look(browser) {
  const pages = {
    overview: "/console/overview",
    deliveries: "/console/deliveries",
    filtered: "/console/deliveries?status=failed&type=order.paid",
    nothing: "/console/deliveries?type=no.such",
    failed: `/console/deliveries/${things.failed}`,
    scheduled: `/console/deliveries/${things.scheduled}`,
    hostile: `/console/deliveries/${things.hostile}`,
    cancel: `/console/deliveries/${things.scheduled}/cancel`,
    notifications: "/console/notifications",
    notification: "/console/notifications/acme/order-1030",
    unmatched: "/console/notifications/none/alone-1",
    endpoints: "/console/endpoints",
    endpoint: `/console/endpoints/${things.endpoint}`,
    month: `/console/endpoints/${things.endpoint}?span=30d`,
    strange: `/console/endpoints/${things.strange}`,
    disable: `/console/endpoints/${things.endpoint}/disable`,
    choose: "/console/endpoints/new",
    newEndpoint: "/console/endpoints/new?wire_format=cloudevents",
    settings: `/console/endpoints/${things.endpoint}/settings`,
    secret: `/console/endpoints/${things.endpoint}/secret`,
    delete: `/console/endpoints/${things.strange}/delete`,
    newKey: "/console/keys/new",
    events: "/console/events",
    replays: "/console/replays",
    workers: "/console/workers",
    again: "/console/replays/new?status=failed&window=all",
    letters: "/console/dead-letters",
    keys: "/console/keys",
    audit: "/console/audit",
    send: "/console/send?tenant=acme",
    like: "/console/send?like=order-1042&of=acme",
    transform: `/console/endpoints/${things.endpoint}/transform`,
    compare: `/console/deliveries/${things.failed}?compare=1,3`,
    unknown: "/console/no-such-page",
    login: "/console/login",
  };
  for (const scheme of ["light", "dark"]) {
    const context = await browser.newContext({ colorScheme: scheme });
    const page = await context.newPage();
    watch(page);
    await signIn(page, "/console/deliveries");
    for (const [name, where] of Object.entries(pages)) {
      await page.goto(url + where);
      await inspect(page, name, scheme);
      check((await page.title()).endsWith("Posthaste"), `${name}: ${await page.title()}`);
    }
    await states(page, scheme);
    await context.close();
  }
}

// What pages show after something was done on them.
async function states(page, scheme) {
  const wide = () => page.setViewportSize({ width: 1280, height: 760 });
  await wide();
  await page.goto(`${url}/console/deliveries/${things.scheduled}`);
  await page.click("text=Cancel …");
  await page.waitForSelector("#ask[open] form");
  await inspect(page, "dialog", scheme);
  await page.click("#ask >> text=Back");
  check(await page.locator("#ask").isHidden(), "Back closes the dialog");
  await wide();
  await page.goto(`${url}/console/deliveries`);
  await page.check("td.select input >> nth=1");
  await inspect(page, "selected", scheme);
  await wide();
  await page.goto(`${url}/console/send?endpoint_id=${things.endpoint}`);
  await page.click("text=Who gets it?");
  await page.waitForSelector("#outlook");
  await inspect(page, "who", scheme);
  await wide();
  await page.goto(`${url}/console/endpoints/${things.endpoint}/transform`);
  await page.fill("#script", "export default (n) => {\n\treturn 1 +;\n}");
  await page.click("text=Check");
  await page.waitForSelector("#problem");
  const at = await page.evaluate(() => document.activeElement.id
    + document.querySelector("#script").selectionStart);
  check(at === "script35", `Check goes to the place of the mistake: ${at}`);
  await inspect(page, "mistake", scheme);
  await wide();
  await page.fill("#script",
    "export default (n) => {\n  console.log(n.type);\n  return { payload: { was: n.payload } };\n}");
  await page.click("button:text-is('Try')");
  await page.waitForSelector("text=It works");
  await inspect(page, "tried", scheme);
}

// Without a script everything is read and done all the same.
async function withoutScript(browser) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(url + told.link);
  await page.click("button[type=submit]");
  await page.waitForURL(`${url}/console/overview`);
  check((await page.textContent(".said")).includes("attention"), "the disabled endpoint needs attention");
  await page.click("nav.rail >> text=Deliveries");
  await page.waitForURL(`${url}/console/deliveries`);
  check((await page.locator(".tools").isVisible()) === false, "tools that need a script are hidden");
  await page.click("#filters summary");
  await page.check("input[name=status][value=failed]");
  await page.click("#filters button");
  await page.waitForURL(/status=failed/);
  const rows = await page.locator("tr[data-row]").count();
  check(rows === 3, `three failed: ${rows}`);
  await page.click("text=Replay all that match");
  await page.waitForURL(/replays\/new\?status=failed/);
  check((await page.textContent("h1")) === "Send 3 deliveries again?", "it asks how many");
  await page.click("text=Back");
  await page.waitForURL(/deliveries\?status=failed/);
  await page.click("tr[data-row] td a >> nth=0");
  await page.waitForURL(/\/console\/deliveries\//);
  await page.goto(`${url}/console/deliveries/${things.failed}`);
  await page.click("text=Compare >> nth=-1");
  await page.waitForURL(/compare=2(%2C|,)3/);
  check((await page.textContent("main")).includes("compared"), "two attempts are compared");
  // Rows are boxes of a form.
  await page.goto(`${url}/console/deliveries?status=failed&window=all`);
  for (const box of await page.locator("td.select input").all()) await box.check();
  await page.click("#selected >> text=Cancel");
  await page.waitForURL(/notice=finished\.3/);
  check((await page.textContent(".notice")) === "3 were finished already.", "it says how many");
  await page.goto(`${url}/console/deliveries/${things.parked}`);
  await page.click("text=Cancel …");
  await page.click("text=Cancel it");
  await page.waitForURL(/notice=cancelled/);
  check(await page.locator(".notice").isVisible(), "it says what was done");
  check((await page.locator("h1 .chip").textContent()).includes("cancelled"), "it is cancelled");
  await formsWithoutScript(page);
  await page.goto(url + told.link);
  await page.click("button[type=submit]");
  check((await page.textContent("body")).includes("used already"), "a link signs in once");
  await context.close();
}

// Forms say at their fields what is wrong, keep what was typed, and show a secret once.
async function formsWithoutScript(page) {
  const field = (name) => `[id="f-${name}"]`;
  await page.goto(`${url}/console/endpoints`);
  await page.click("text=New endpoint …");
  await page.click("main >> text=cloudevents");
  await page.fill(field("url"), things.receiver);
  await page.fill(field("tenant"), "forms");
  await page.selectOption(field("settings.mode"), "binary");
  await page.fill(field("settings.transform"), "export default (n) => {\n  return 1 +;\n}");
  await page.fill(field("headers"), "X-From: console");
  await page.click("text=Create");
  const said = await page.textContent("main");
  check(/transform.*line 2/s.test(said), `the script's mistake has its line: ${said}`);
  check(await page.inputValue(field("settings.mode")) === "binary", "what was chosen stays");
  await page.fill(field("settings.transform"),
    "export default (n) => ({\n  payload: { was: n.payload },\n})");
  await page.click("text=Create");
  await page.waitForSelector("code.secret, h1 .chip");
  await page.goto(`${url}/console/endpoints?tenant=forms`);
  await page.click("tr[data-row] td a >> nth=0");
  await page.click("main >> text=Settings >> nth=0");
  check(await page.inputValue(field("settings.mode")) === "binary", "its settings are shown");
  await page.fill(field("timeout_ms"), "9000");
  await page.click("text=Save");
  await page.waitForURL(/notice=saved/);
  check((await page.textContent("dl.facts")).includes("9"), "it is saved");
  // A transform: its mistake, what it does, and saved.
  await page.goto(`${url}/console/endpoints?tenant=forms`);
  await page.click("tr[data-row] td a >> nth=0");
  await page.click("main >> text=Transform >> nth=0");
  await page.fill("#script", "export default (n) => {\n  return 1 +;\n}");
  await page.click("text=Check");
  check((await page.textContent("#problem")).includes("Line 2, column 13"), "its line and column");
  await page.fill("#script", "export default (n) => ({\n  payload: { is: n.payload },\n})");
  await page.click("button:text-is('Try')");
  check((await page.textContent("#outlook")).includes("It works"), "it is tried");
  check((await page.textContent("#outlook")).includes('"is"'), "its result is shown");
  await page.click("button:text-is('Save')");
  await page.waitForURL(/notice=transformed/);
  // A notification by hand: who gets it, sent once, and followed to its end.
  await page.click("nav.rail >> text=Send a test");
  await page.fill(field("tenant"), "forms");
  await page.fill(field("type"), "order.paid");
  await page.fill(field("payload"), '{"order": 7}');
  await page.click("text=Who gets it?");
  check((await page.textContent("#outlook")).includes("One endpoint gets it"), "who gets it");
  await page.click("text=Send it");
  await page.waitForURL(/notifications\/forms\/.*notice=sent/);
  for (let tries = 0; tries < 60 && await page.locator("text=Look again").count(); tries += 1) {
    await page.waitForTimeout(500);
    await page.click("text=Look again");
  }
  await page.click("text=Send one like it …");
  check((await page.inputValue(field("payload"))).includes('"order": 7'), "it begins as that one");
  await page.goto(`${url}/console/audit`);
  check((await page.textContent("main")).includes("endpoint.create"), "who did what is written");
  await page.goto(`${url}/console/keys`);
  await page.click("text=New key …");
  await page.fill(field("name"), "from the console");
  await page.click("text=Create");
  const key = await page.textContent("code.secret");
  check(key.startsWith("ph_"), "the key is shown once");
  await page.click("text=To the keys");
  check(!(await page.content()).includes(key), "and not again");
  await page.click("tr:has-text('from the console') >> text=Revoke …");
  await page.click("text=Revoke it");
  await page.waitForURL(/notice=revoked/);
}

// An open page follows what happens, without a reload; keys lead everywhere.
async function fresh(browser) {
  const context = await browser.newContext();
  const page = await context.newPage();
  watch(page);
  await signIn(page, `/console/deliveries/${things.refused}`);
  await page.selectOption("#live", "2");
  await page.evaluate(() => { window.sameDocument = true; });
  const answer = await context.request.post(`${url}/v1/deliveries/${things.refused}/retry`, {
    headers: { authorization: `Bearer ${told.key}` },
  });
  check(answer.ok(), "it is sent again");
  await page.waitForFunction(() => document.querySelectorAll(".attempts tbody tr").length === 2,
    null, { timeout: 30_000 });
  check(await page.evaluate(() => window.sameDocument), "the page was not loaded again");
  await page.selectOption("#live", "0");
  await page.evaluate(() => document.activeElement.blur());

  await page.keyboard.press("g");
  await page.keyboard.press("d");
  await page.waitForURL(/\/console\/deliveries$/);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const second = await page.locator("tr[data-row]").nth(1).getAttribute("class");
  check(second === "here", "j goes to the next row");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/console\/deliveries\/[0-9a-f-]{36}$/);
  // What is not set does not stand in the address.
  await page.goto(`${url}/console/deliveries`);
  await page.keyboard.press("f");
  await page.fill("#f-type", "order.paid");
  await page.keyboard.press("Enter");
  await page.waitForURL(`${url}/console/deliveries?type=order.paid&window=24h`);
  await page.goto(`${url}/console/deliveries/${things.scheduled}`);
  await page.keyboard.press("c");
  await page.waitForSelector("#ask[open] form");
  check(page.url().endsWith(things.scheduled), "it is asked in a dialog");
  await page.keyboard.press("Escape");
  check(await page.locator("#ask").isHidden(), "Escape closes it");
  // Rows by keys.
  await page.goto(`${url}/console/deliveries`);
  check(await page.locator("#selected button >> nth=0").isDisabled(), "nothing is selected");
  for (const key of ["j", "x", "j", "j", "Shift+X"]) await page.keyboard.press(key);
  check(await page.locator("td.select input:checked").count() === 3, "x and Shift+x select rows");
  check((await page.textContent("#count")) === "3", "it says how many");
  await page.goto(`${url}/console/deliveries/${things.scheduled}`);
  await page.keyboard.press("/");
  await page.keyboard.type("order-1030");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/console\/notifications\/acme\/order/);
  await page.keyboard.press("?");
  check(await page.locator("#help").isVisible(), "? opens the help");
  await page.keyboard.press("Escape");
  await page.keyboard.press("t");
  check(await page.evaluate(() => document.documentElement.dataset.theme) === "light", "t: light");
  await page.keyboard.press("t");
  check(await page.evaluate(() => document.documentElement.dataset.theme) === "dark", "t: dark");

  // The test of an endpoint, and both ways of its switch.
  await page.goto(`${url}/console/endpoints/${things.endpoint}`);
  await page.click("main >> text=Send a test");
  await page.waitForSelector("text=One request was sent");
  await page.click("text=Back to the endpoint");
  await page.click("text=Disable …");
  await page.waitForSelector("#ask[open]");
  await page.dblclick("text=Disable it");
  await page.waitForSelector("h1 .chip:has-text('disabled')");
  await page.click("form[action$='/enable'] button");
  await page.waitForSelector("h1 .chip:has-text('disabled')", { state: "detached" });

  // After signing out, Back shows nothing.
  await page.goto(`${url}/console/deliveries`);
  await page.click("text=Sign out");
  await page.waitForURL(/\/console\/login/);
  await page.goBack();
  await page.waitForURL(/\/console\/login/);
  check(await page.locator("#key").isVisible(), "Back asks to sign in");
  await context.close();
}

// A link from another site opens the page although the cookie is strict.
async function fromElsewhere(browser) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await signIn(page, "/console/deliveries");
  await page.goto("data:text/html,<a id=a>x</a>");
  await page.evaluate((where) => { document.querySelector("#a").href = where; },
    `${url}/console/deliveries/${things.failed}`);
  await page.click("#a");
  await page.waitForSelector("h1 .chip", { timeout: 30_000 });
  check(page.url().endsWith(things.failed), `it opens: ${page.url()}`);
  // And nobody frames it.
  await page.goto(`data:text/html,<iframe src="${url}/console/login"></iframe>`);
  const framed = page.frames().find((frame) => frame !== page.mainFrame());
  const inside = framed ? await framed.evaluate(() => document.querySelector("#key") !== null)
    .catch(() => false) : false;
  check(!inside, "it is in no frame");
  await context.close();
}

(async () => {
  // As root, as in a container, Chromium's own sandbox cannot start.
  const browser = await chromium.launch({
    executablePath: told.chromium,
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  for (const walk of [withoutScript, look, fresh, fromElsewhere]) {
    try {
      await walk(browser);
    } catch (error) {
      wrong.push(`${walk.name}: ${error.stack}`);
    }
  }
  await browser.close();
  if (wrong.length) {
    console.error(wrong.join("\n"));
    process.exit(1);
  }
  console.log("every step was walked");
})();
