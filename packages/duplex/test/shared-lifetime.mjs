// A process that does nothing but wait for a thread which does not keep it alive. See shared-threads.test.ts.
import { isMainThread, Worker, workerData } from "node:worker_threads";

import { attachSharedDuplex, bytesCodec, createSharedDuplex } from "../dist/index.js";

const codecs = { tx: bytesCodec, rx: bytesCodec };

async function wait(mode) {
  const handle = createSharedDuplex({ slots: 2, slotBytes: 8 });
  const worker = new Worker(new URL(import.meta.url), { workerData: { handle, mode } });
  const end = attachSharedDuplex(handle, 0, { codecs, peer: worker });
  await end.recv(); // the thread is there
  worker.unref();
  if (mode === "answered") {
    const answer = await end.recv();
    process.stdout.write(`received ${answer[0]}\n`);
    end.close();
    return;
  }
  const aborting = new AbortController();
  const receiving = end.recv({ signal: aborting.signal });
  aborting.abort();
  await receiving.catch(() => process.stdout.write("aborted\n"));
  // The end stays open: only waits may hold the process.
}

function answer({ handle, mode }) {
  const end = attachSharedDuplex(handle, 1, { codecs });
  end.sendSync(Uint8Array.of(1));
  // Longer than an idle process takes to end.
  if (mode === "answered") end.recvSync(300);
  else end.recvSync();
  end.sendSync(Uint8Array.of(42));
}

if (isMainThread) await wait(process.argv[2]);
else answer(workerData);
