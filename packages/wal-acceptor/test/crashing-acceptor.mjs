// An acceptor in a process of its own, to be killed: on a file system whose undurable writes are journaled, if it is given a
// journal; on one that fails, if it is told when. Prints its port. Runs the built package.
import { createServer } from "node:net";
import { IoEngine } from "@millrace/aio";
import { AcceptorNode, createFileSystem, ENGINE_FILES_MAX } from "../dist/index.js";
import { failing, journaled } from "./write-journal.mjs";

const { directory, journal, failAt } = JSON.parse(process.argv[2] ?? "{}");

function onFatal(error) {
  process.stderr.write(`${String(error)}\n`);
  process.exit(70);
}

let own = {};
if (journal !== undefined || failAt !== undefined) {
  const machine = createFileSystem(IoEngine.create({ filesMax: ENGINE_FILES_MAX, fixBuffers: false }));
  own = { fileSystem: journal === undefined ? failing(machine, failAt) : journaled(machine, journal) };
}
const node = await AcceptorNode.open({ directory, nodeId: 1n, onFatal, ...own });
const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on("error", () => undefined);
  void node.handleConnection(socket);
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`port ${server.address().port}\n`));
