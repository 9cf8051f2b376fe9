import { describe, expect, test } from "vitest";
import {
  armFault,
  disarmFaults,
  errno,
  errnoName,
  nativeStatus,
  probeUring,
  Ring,
  setupReason,
} from "@millrace/io-uring";
import { whyNoUring } from "./fixtures.js";

describe.skipIf(!nativeStatus().available)("the probe", () => {
  test.each([
    ["EPERM", "kernel.io_uring_disabled"],
    ["EMFILE", "ulimit -n"],
    ["ENOMEM", "RLIMIT_MEMLOCK"],
    ["ENOSYS", "older than 5.6"],
  ] as const)("%s says what is in the way, and so does a ring", (name, hint) => {
    const value = errno(name);
    armFault({ operation: "setup", result: value, times: 2 });
    expect(probeUring()).toEqual({
      available: false,
      code: name,
      errno: value,
      reason: expect.stringContaining(hint) as string,
    });
    expect(() => Ring.create({ entries: 1 })).toThrow(
      expect.objectContaining({
        code: "ERR_URING_SETUP",
        errno: value,
        message: setupReason(value),
      }) as Error,
    );
    disarmFaults();
  });

  test.skipIf(whyNoUring !== undefined)(
    "a kernel that lets a ring be set up but not entered is found out",
    () => {
      armFault({ operation: "enter", result: errno("EPERM") });
      expect(probeUring()).toMatchObject({ available: false, code: "EPERM" });
      expect(probeUring()).toMatchObject({ available: true });
    },
  );

  test("an errno without a name or a hint is still told", () => {
    expect([errnoName(-1), errnoName(5)]).toEqual(["EPERM", "5"]);
    expect(errnoName(-12345)).toContain("-12345");
    expect(setupReason(-12345)).toContain("-12345");
  });
});

test.skipIf(whyNoUring !== undefined)("what the kernel itself refuses is an error with its errno", () => {
  expect(() => Ring.create({ entries: 1 << 20 })).toThrow(
    expect.objectContaining({ code: "ERR_URING_SETUP", errno: errno("EINVAL") }) as Error,
  );
});
