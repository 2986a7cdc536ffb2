/**
 * The core of the browser suite in Firefox, over WebDriver BiDi: `node firefox.mjs <firefox> <url> <step>`. The steps
 * leave no trace that another one would find.
 */

import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

const [executablePath, site, step] = process.argv.slice(2);
const timeout = 120_000; // of a wait, which is no measure of speed
const BELL = "org-notifications";

async function until(condition, what) {
  const deadline = Date.now() + timeout;
  while (Date.now() < deadline) {
    if (await condition().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not in time: ${what}`);
}

const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true, protocolTimeout: timeout });
const errors = [];

async function newPage(context, prepare = null) {
  const page = await context.newPage();
  page.setDefaultTimeout(timeout);
  page.on("pageerror", (error) => errors.push(error.message));
  if (prepare) await page.evaluateOnNewDocument(prepare);
  return page;
}

async function live(page) {
  await page.waitForSelector("#state[data-state=live]");
  return page;
}

async function logIn(name, context, prepare = null) {
  const page = await newPage(context, prepare);
  await page.goto(`${site}/accounts/login/?next=/orgs/acme/`);
  await page.click(`button[value=${name}]`);
  return live(page);
}

const newContext = () => browser.createBrowserContext();
const firstTitle = (page) => page.$eval(".card h3", (title) => title.textContent);
const columnOf = (page, title) =>
  page.evaluate(
    (wanted) => [...document.querySelectorAll(".card")].find((card) => card.innerText.includes(wanted))?.dataset.status,
    title,
  );

/** Press the first button of the first card; returns its title and the status that it gets. */
async function move(page) {
  const title = await firstTitle(page);
  const status = await page.$eval(".card .moves button:not([hidden])", (button) => {
    button.click();
    return button.value;
  });
  return { title, status };
}

async function seesMove(mover, watcher) {
  const { title, status } = await move(mover);
  await until(async () => (await columnOf(watcher, title)) === status, `${title} in ${status}`);
}

const STEPS = {
  async "members see each other's changes at once"() {
    const [alice, bob] = [await logIn("alice", await newContext()), await logIn("bob", await newContext())];
    await seesMove(alice, bob);
    await seesMove(bob, alice);
  },

  async "the bell counts, opens inside of the window, and is closed by a key"() {
    const [alice, bob] = [await logIn("alice", await newContext()), await logIn("bob", await newContext())];
    await seesMove(bob, alice);
    const name = () => alice.$eval(BELL, (bell) => bell.shadowRoot.querySelector("button").ariaLabel);
    await until(async () => (await name()) === "Notifications, 1 unread", "the number");
    for (const [width, height] of [
      [1280, 860],
      [390, 844],
      [844, 390],
    ]) {
      await alice.setViewport({ width, height });
      await alice.click(BELL);
      const isShown = () => alice.$eval(BELL, (bell) => bell.shadowRoot.querySelector("header").checkVisibility());
      await until(isShown, "the list");
      const edges = await alice.$eval(BELL, (bell) => {
        const { top, left, bottom, right } = bell.shadowRoot.querySelector("[popover]").getBoundingClientRect();
        return [top >= 0, left >= 0, bottom <= innerHeight, right <= innerWidth];
      });
      assert.deepEqual(edges, [true, true, true, true], `${width}x${height}`);
      await alice.keyboard.press("Escape");
      assert.equal(await alice.$eval(BELL, (bell) => bell.open), false);
    }
    assert.equal(await name(), "Notifications");
  },

  async "tabs outlive the one that holds the connection"() {
    const context = await newContext();
    const first = await logIn("alice", context);
    const others = [];
    for (let count = 0; count < 2; count++) {
      const tab = await newPage(context);
      await tab.goto(`${site}/orgs/acme/`);
      others.push(await live(tab));
    }
    await first.close();
    const bob = await logIn("bob", await newContext());
    const { title, status } = await move(bob);
    for (const tab of others) await until(async () => (await columnOf(tab, title)) === status, "the move in a tab");
  },

  async "without sockets events come as a stream"() {
    const blocked = () => {
      delete globalThis.WebSocket;
    };
    const alice = await logIn("alice", await newContext(), blocked);
    await seesMove(await logIn("bob", await newContext()), alice);
  },

  async "another login takes what was shown to the first"() {
    const context = await newContext();
    const alice = await logIn("alice", context);
    await logIn("bob", context);
    await until(async () => (await alice.$eval(".who", (who) => who.textContent)) === "Bob", "the page as Bob's");
    await live(alice);
  },
};

try {
  await STEPS[step]();
  assert.deepEqual(errors, []);
} finally {
  await browser.close();
}
