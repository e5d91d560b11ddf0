// Takes screenshots of the player page and the list, on a desktop, a phone and in the dark, into the folder given.
import { join } from "node:path";
import { publish, startBrowser, startServer, withCleanup } from "./rig.mjs";

const folder = process.argv[2] ?? "/tmp";
await withCleanup(async (keep) => {
  const server = keep(await startServer());
  keep(await publish(server, "live/demo"));
  const browser = keep(await startBrowser());
  const views = {
    desktop: { viewport: { width: 1280, height: 900 } },
    dark: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
    phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  };
  for (const [name, options] of Object.entries(views)) {
    const page = await browser.open(options);
    page.on("console", (message) => console.log(name, message.type(), message.text()));
    page.on("pageerror", (error) => console.log(name, String(error)));
    await page.goto(`${server.url}/live/demo/`);
    await page.waitForTimeout(12_000);
    await page.screenshot({ path: join(folder, `player-${name}.png`), fullPage: true });
    console.log(name, JSON.stringify(await page.evaluate(() => lhlsPage())));
    await page.goto(server.url);
    await page.waitForTimeout(500);
    await page.screenshot({ path: join(folder, `list-${name}.png`), fullPage: true });
    await page.close();
  }
});
