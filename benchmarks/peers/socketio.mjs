// Socket.IO with its Redis adapter: `node socketio.mjs serve PORT [PROCESSES]`; what a client says, all in the room are
// told. Run with `publish`, it publishes as benchmarks/pace.py.
import cluster from "node:cluster";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import Redis from "ioredis";
import { Server } from "socket.io";

const [command, port, processes] = process.argv.slice(2);
const redis = new Redis(process.env.REDIS_URL);

function serve() {
  const http = createServer();
  const io = new Server(http, { perMessageDeflate: false, adapter: createAdapter(redis, redis.duplicate()) });
  io.on("connection", (socket) => {
    socket.join("org-1");
    socket.on("message", (text) => io.to("org-1").emit("message", text));
  });
  http.listen(Number(port), "127.0.0.1");
}

async function publish() {
  const room = new Emitter(redis).to("org-1");
  let number = 0;
  const emit = () =>
    room.emit("notify", {
      number: number++,
      task_id: 123,
      action: "status_changed",
      details: { from: "todo", to: "done" },
      "^": Number(process.hrtime.bigint()),
    });
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, first, second] = line.split(" ");
    if (command === "burst") {
      for (let each = 0; each < Number(first); each++) emit();
    } else {
      const begun = performance.now();
      for (let each = 0; each < Math.round(first * second); each++) {
        await sleep(Math.max(0, begun + (each / first) * 1000 - performance.now()));
        emit();
      }
    }
    console.log("done");
  }
  redis.disconnect();
}

if (command === "publish") await publish();
else if (cluster.isPrimary && processes) for (let each = 0; each < Number(processes); each++) cluster.fork();
else serve();
