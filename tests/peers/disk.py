"""How long this disk takes to append 128 bytes and sync them (fdatasync), the unit of everything durable: median of 300."""
import os, statistics, sys, time
path = os.path.join(sys.argv[1] if len(sys.argv) > 1 else ".", "disk.tmp")
fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
took = []
for _ in range(300):
    t = time.perf_counter()
    os.write(fd, b"x" * 128)
    os.fdatasync(fd)
    took.append((time.perf_counter() - t) * 1e3)
os.unlink(path)
print(f"fdatasync_ms median={statistics.median(took):.3f} p90={sorted(took)[269]:.3f}")
