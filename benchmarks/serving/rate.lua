-- wrk as an open loop: requests leave when their time has come, whether the earlier ones were answered or not, as long as a connection is free.
-- Arguments: a Lua file that returns {rate = requests a second, sending_s = ..., hostile_every = ..., tolerance = ..., times_file = ...,
-- images = {{name, file, label, model, probabilities = {label = value}}}, hostile = {{kind, path, file, headers = {...}}}}.
-- One thread (-t1). Each request has a number, X-Request-Id, which its answer brings back; so each answer is timed and checked by what was asked.
-- No request whose time comes after sending_s is sent; what wrk's own duration is longer is for the last answers. Writes one line of JSON, where
-- "KIND<tab>STATUS" counts answers and KIND is empty for images, and the times, in microseconds, to times_file.
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);")
local moment = ffi.new("moment")
local threads = {}
local EARLY_US = 2000 -- delay() rounds down to whole milliseconds

local function now_us()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.s) * 1e6 + tonumber(moment.ns) / 1e3
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

local function around_the_id(path, headers, body)
  headers["Host"] = "localhost"
  headers["X-Request-Id"] = "@@@"
  local whole = wrk.format("POST", path, headers, body)
  local first, last = string.find(whole, "@@@", 1, true)
  return string.sub(whole, 1, first - 1), string.sub(whole, last + 1)
end

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  plan = dofile(arguments[1])
  good, bad = {}, {}
  for index, image in ipairs(plan.images) do
    local before, after = around_the_id("/predict?name=" .. image.name, { ["Content-Type"] = "application/octet-stream" }, read(image.file))
    good[index] = { before = before, after = after, image = image }
  end
  for index, each in ipairs(plan.hostile) do
    local before, after = around_the_id(each.path, each.headers, read(each.file))
    bad[index] = { before = before, after = after, kind = each.kind }
  end
  interval_us = 1e6 / plan.rate
  started_us, next_slot, first_due, last_due, due = nil, 0, 1, 0, {}
  sent, hostile_sent, good_sent, answered, wrong, unasked, asked_anew = 0, 0, 0, 0, 0, 0, 0
  asked, asked_us = {}, {}
  statuses, accepted, refused, late = {}, {}, {}, {} -- flat: wrk cannot hand a table in a table to done()
  times_file = plan.times_file
end

-- The next free connection takes the next slot; milliseconds until it.
function delay()
  local now = now_us()
  started_us = started_us or now
  local slot_us = started_us + next_slot * interval_us
  if slot_us - started_us > plan.sending_s * 1e6 then return 1e9 end
  next_slot = next_slot + 1
  last_due = last_due + 1
  due[last_due] = slot_us
  return math.max(0, math.floor((slot_us - now) / 1000))
end

function request()
  if started_us == nil then return good[1].before .. "0" .. good[1].after end -- wrk looks at one before it begins, and does not send it
  local now = now_us()
  if first_due <= last_due and due[first_due] <= now + EARLY_US then
    late[#late + 1] = math.max(0, now - due[first_due])
    due[first_due] = nil
    first_due = first_due + 1
  else -- no request is due: wrk asks anew on a connection that broke
    asked_anew = asked_anew + 1
  end
  last_sent_us = now
  local one
  if plan.hostile_every > 0 and sent % plan.hostile_every == plan.hostile_every - 1 then
    one = bad[hostile_sent % #bad + 1]
    hostile_sent = hostile_sent + 1
  else
    one = good[good_sent % #good + 1]
    good_sent = good_sent + 1
  end
  sent = sent + 1
  local id = tostring(sent)
  asked[id], asked_us[id] = one, now
  return one.before .. id .. one.after
end

local function is_right(image, body)
  body = string.gsub(body, '": ', '":')
  if not string.find(body, '"path":"' .. image.name .. '"', 1, true) then return false end
  if not string.find(body, '"label":"' .. image.label .. '"', 1, true) then return false end
  if not string.find(body, '"model":"' .. image.model .. '"', 1, true) then return false end
  local found = string.match(body, '"probabilities":(%b{})')
  if found == nil then return false end
  for label, value in pairs(image.probabilities) do
    local first, last = string.find(found, '"' .. label .. '":', 1, true)
    local given = first and tonumber(string.match(found, "^[%d%.eE+-]+", last + 1))
    if given == nil or math.abs(given - value) > plan.tolerance then return false end
  end
  return true
end

function response(status, headers, body)
  local now = now_us()
  local id
  for name, value in pairs(headers) do
    if string.lower(name) == "x-request-id" then id = value end
  end
  local one = id and asked[id]
  if not one then
    unasked = unasked + 1
    return
  end
  local took_us = now - asked_us[id]
  asked[id], asked_us[id] = nil, nil
  answered = answered + 1
  local key = (one.kind or "") .. "\t" .. status
  statuses[key] = (statuses[key] or 0) + 1
  if one.kind == nil then
    if status == 200 then
      accepted[#accepted + 1] = took_us
      if not is_right(one.image, body) then wrong = wrong + 1 end
    elseif status == 503 then
      refused[#refused + 1] = took_us
    end
  end
end

function done(summary, latency, requests)
  local thread = threads[1]
  local file = assert(io.open(thread:get("times_file"), "w"))
  for _, name in ipairs({ "accepted", "refused", "late" }) do
    file:write(name)
    for _, value in ipairs(thread:get(name)) do file:write(" ", string.format("%.0f", value)) end
    file:write("\n")
  end
  file:close()
  local parts = {}
  for _, name in ipairs({ "sent", "answered", "wrong", "unasked", "asked_anew" }) do parts[#parts + 1] = string.format('"%s": %d', name, thread:get(name)) end
  for key, count in pairs(thread:get("statuses")) do parts[#parts + 1] = '"' .. string.gsub(key, "\t", "\\t") .. '": ' .. count end
  parts[#parts + 1] = string.format('"unsent": %d', thread:get("last_due") - thread:get("first_due") + 1)
  local seconds = ((thread:get("last_sent_us") or 0) - (thread:get("started_us") or 0)) / 1e6
  parts[#parts + 1] = string.format('"seconds": %.6f', seconds)
  parts[#parts + 1] = string.format('"connection_errors": %d', summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout)
  io.write("{", table.concat(parts, ", "), "}\n")
end
