// A line with a delay: passes TCP connections on, every byte later by half a round trip in either direction. It stands in for `tc netem`,
// which needs root and a kernel that has it. The opening of a connection is not delayed, and nothing is lost or limited; but the line can be
// interrupted for a while.

import { connect, createServer } from "node:net";

/** Listens on a free port of 127.0.0.1 and passes everything on to `port` there, with this round trip in ms. */
export async function startRelay(port, roundTrip) {
  const sockets = new Set();
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.setNoDelay(true);
      // Timers of the same length fire in the order in which they were set.
      const later = (action) => setTimeout(() => to.destroyed || action(), roundTrip / 2);
      from.on("data", (data) => later(() => to.write(data)));
      from.on("end", () => later(() => to.end()));
      from.on("error", () => to.destroy());
      from.on("close", () => (sockets.delete(from), later(() => to.destroy())));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Takes nothing on for so many ms, in either direction; new connections wait too. */
    async interrupt(ms) {
      const interrupted = [...sockets];
      const waits = (socket) => (socket.pause(), interrupted.push(socket));
      for (const socket of interrupted) socket.pause();
      server.prependListener("connection", waits);
      await new Promise((resolve) => setTimeout(resolve, ms));
      server.off("connection", waits);
      for (const socket of interrupted) socket.resume();
    },
    stop: () => new Promise((resolve) => {
      for (const socket of sockets) socket.destroy();
      server.close(resolve);
    }),
  };
}
