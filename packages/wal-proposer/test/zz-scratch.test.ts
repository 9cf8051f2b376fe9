import { createServer } from "node:net";
import { expect, test } from "vitest";
import { acceptConnection } from "@millrace/pg-wire";
import { probeAcceptor } from "../src/acceptor-probe.js";
import { systemClock } from "../src/timers.js";
test("an acceptor that dies after TIMELINE_STATUS", async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    void (async () => {
      const c = await acceptConnection(socket, {} as never);
      for (;;) {
        const text = (await c.readQuery()) ?? "";
        if (/TIMELINE_STATUS/.test(text)) { await c.sendRows([{name:"flush_lsn",type:"text"} as never,{name:"commit_lsn",type:"text"} as never],[["0/3000000","0/3000000"]],"TIMELINE_STATUS"); await c.sendReadyForQuery(); }
        else { await c.startCopyBoth(); socket.end(); return; }
      }
    })().catch((e)=>console.log("server",e));
  });
  await new Promise<void>((r) => server.listen(0, "127.0.0.1", r));
  const { port } = server.address() as any;
  const r = await probeAcceptor({ address: { host: "127.0.0.1", port }, greeting: { tenantId: "0".repeat(32), timelineId: "1".repeat(32), pgVersion: 150000, systemId: 1n, segmentBytes: 16777216 }, protocolVersion: 3, timeoutMs: 3000, clock: systemClock });
  console.log("PROBE", r); server.close();
});
