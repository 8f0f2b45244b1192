-- wrk sends the pre-signed targets of the file named by TARGETS, one after the other, from a random place. METHOD is GET unless
-- set; BODY_BYTES is the size of a body.
local targets = {}
for line in io.lines(os.getenv("TARGETS")) do
  targets[#targets + 1] = line
end
local requests = {}

function init()
  math.randomseed(os.time())
  local size = tonumber(os.getenv("BODY_BYTES") or "0")
  local body = size > 0 and string.rep("sluice..", size / 8) or nil
  for i, target in ipairs(targets) do
    requests[i] = wrk.format(os.getenv("METHOD") or "GET", target, nil, body)
  end
  at = math.random(#requests)
end

function request()
  at = at % #requests + 1
  return requests[at]
end

-- Bytes, because requests leave out what was under way at the end: with four downloads of 64 MiB, a tenth of a run.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("\n{\"bytes\": %d, \"requests\": %d, \"microseconds\": %d, \"errors\": %d, \"p50\": %f, \"p99\": %f, \"p999\": %f}\n",
    summary.bytes, summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
