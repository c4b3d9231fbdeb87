-- wrk: POST images one after another, and check each answer against what is expected of the image that it names.
-- Arguments: a Lua file that returns {path = ..., multipart = ..., images = {{name, file, expected}}}; expected is a plain text that the answer must hold, with
-- the image's name before it where the service gives names back.
local images, path
local counts
local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(arguments)
  local plan = dofile(arguments[1])
  images, path = plan.images, plan.path
  right, wrong, refused, failed = 0, 0, 0, 0
  at = number * 17
  requests = {}
  expected = {}
  for index, image in ipairs(images) do
    local file = assert(io.open(image.file, "rb"))
    local body = file:read("*a")
    file:close()
    if plan.multipart then
      body = '--B\r\nContent-Disposition: form-data; name="image"; filename="' .. image.name .. '"\r\nContent-Type: image/jpeg\r\n\r\n' .. body .. "\r\n--B--\r\n"
      requests[index] = wrk.format("POST", path, { ["Content-Type"] = "multipart/form-data; boundary=B", ["Host"] = "localhost" }, body)
    else
      requests[index] = wrk.format("POST", path .. "?name=" .. image.name, { ["Content-Type"] = "application/octet-stream", ["Host"] = "localhost" }, body)
    end
    expected[image.name] = image.expected
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function response(status, headers, body)
  if status == 200 then
    body = string.gsub(body, '": ', '":')
    local name = string.match(body, '"path":"([^"]*)"')
    if name ~= nil and expected[name] ~= nil and string.find(body, expected[name], 1, true) then right = right + 1 else wrong = wrong + 1 end
  elseif status == 503 then
    refused = refused + 1
  else
    failed = failed + 1
  end
end

function done(summary, latency, requests)
  local total = { right = 0, wrong = 0, refused = 0, failed = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(total) do total[name] = total[name] + thread:get(name) end
  end
  io.write(string.format(
    '{"seconds": %.6f, "right": %d, "wrong": %d, "refused": %d, "failed": %d, "connection_errors": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
    summary.duration / 1e6, total.right, total.wrong, total.refused, total.failed,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
