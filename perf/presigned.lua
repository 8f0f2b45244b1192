-- wrk sends the pre-signed targets of the file named by TARGETS, one after the other, from a random place.
local targets = {}
for line in io.lines(os.getenv("TARGETS")) do
  targets[#targets + 1] = line
end
local requests = {}

function init()
  math.randomseed(os.time())
  for i, target in ipairs(targets) do
    requests[i] = wrk.format("GET", target)
  end
  at = math.random(#requests)
end

function request()
  at = at % #requests + 1
  return requests[at]
end

-- Bytes, because requests leave out what was under way at the end: with four downloads of 64 MiB, a tenth of a run.
function done(summary)
  io.write(string.format("received %d bytes in %d requests\n", summary.bytes, summary.requests))
end
