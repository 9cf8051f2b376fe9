import assert from "node:assert/strict";
import { combineCrc32c, Crc32c, crc32c, pageChecksum, verifyPage } from "@millrace/checksums";

const [head, tail] = [Buffer.from("1234"), Buffer.from("56789")];
const whole = crc32c(Buffer.concat([head, tail]));

assert.equal(whole, 0xe3069283);
assert.equal(crc32c(tail, crc32c(head)), whole);
assert.equal(new Crc32c().update(head).update(tail).digest(), whole);
assert.equal(combineCrc32c(crc32c(head), crc32c(tail), tail.length), whole);

const page = Buffer.alloc(8192, "a page of PostgreSQL's");
page.writeUInt16LE(pageChecksum(page, 42), 8); // as block 42; the field is pd_checksum
assert.equal(verifyPage(page, 42), "valid");
assert.equal(verifyPage(page, 43), "invalid"); // the same page, but at a place where it does not belong
