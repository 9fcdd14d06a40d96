-- The rules of routing/breakers.py, for all processes at once.
-- ARGV[1] JSON list of steps, as `step_document` makes them; ARGV[2] lease in ms; ARGV[3] slots of the window;
-- ARGV[4] channel that hears of a breaker that turned; ARGV[5] the moment in ms, for tests; empty is now.
-- Returns the moment, then for each step 1 or 0 (granted) and the document of its route.

local LEASE_MS, SLOTS = tonumber(ARGV[2]), tonumber(ARGV[3])
if ARGV[5] ~= '' then now = tonumber(ARGV[5]) end

local function well()
  return { state = 'closed', failures = 0, successes = 0, opened_at = 0, retry_at = 0, failed_at = 0, code = '',
           window = {}, leases = {} }
end

local function held(breaker)
  local count = 0
  for _ in pairs(breaker.leases) do count = count + 1 end
  return count
end

local function settle(breaker, step)
  if breaker.state == 'open' then
    breaker.retry_at = math.min(breaker.retry_at, now + step.open_ms)
    if now >= breaker.retry_at then
      breaker.state, breaker.successes, breaker.leases = 'half_open', 0, {}
    end
  else
    local alive = {}
    for lease, ends in pairs(breaker.leases) do
      if now < ends and ends <= now + LEASE_MS then alive[lease] = ends end
    end
    breaker.leases = alive
  end
end

local function count(breaker, step, good, bad)
  local this, kept = math.floor(now / step.slot_ms), {}
  for slot, counts in pairs(breaker.window) do
    local number_of_slot = tonumber(slot)
    if this - SLOTS < number_of_slot and number_of_slot <= this then kept[slot] = counts end
  end
  local before = kept[number(this)] or { 0, 0 }
  kept[number(this)] = { before[1] + good, before[2] + bad }
  breaker.window = kept
end

local function fails_too_often(breaker, step)
  local good, bad = 0, 0
  for _, counts in pairs(breaker.window) do
    good, bad = good + counts[1], bad + counts[2]
  end
  if step.rate == 0 or good + bad < step.minimum then return false end
  return bad >= step.rate * (good + bad)
end

local kinds = {}

function kinds.good(breaker, step)
  breaker.leases[step.lease] = nil
  if breaker.state == 'closed' then
    breaker.failures = 0
    count(breaker, step, step.count, 0)
  elseif breaker.state == 'half_open' then
    breaker.successes = breaker.successes + step.count
    breaker.failures = 0
    if breaker.successes >= step.successes then
      local closed = well()
      closed.failed_at, closed.code = breaker.failed_at, breaker.code
      return true, closed
    end
  end
  return true, breaker
end

function kinds.bad(breaker, step)
  breaker.leases[step.lease] = nil
  breaker.failures, breaker.failed_at, breaker.code = breaker.failures + step.count, now, step.code
  if breaker.state == 'open' then return true, breaker end
  if breaker.state == 'closed' then
    count(breaker, step, 0, step.count)
    if breaker.failures < step.failures and not fails_too_often(breaker, step) then return true, breaker end
  end
  breaker.state, breaker.successes, breaker.opened_at, breaker.retry_at = 'open', 0, now, now + step.open_ms
  breaker.window, breaker.leases = {}, {}
  return true, breaker
end

function kinds.permit(breaker, step)
  if breaker.state ~= 'half_open' then return breaker.state == 'closed', breaker end
  if held(breaker) >= step.quota then return false, breaker end
  breaker.leases[step.lease] = now + LEASE_MS
  return true, breaker
end

function kinds.renew(breaker, step)
  local there = breaker.leases[step.lease] ~= nil
  if there then breaker.leases[step.lease] = now + LEASE_MS end
  return there, breaker
end

function kinds.release(breaker, step)
  breaker.leases[step.lease] = nil
  return true, breaker
end

function kinds.open(breaker, step)
  breaker.failures, breaker.code, breaker.successes = 0, '', 0
  breaker.state, breaker.opened_at, breaker.retry_at = 'open', now, now + step.open_ms
  breaker.window, breaker.leases = {}, {}
  return true, breaker
end

function kinds.reset(breaker, step)
  return true, well()
end

local told, turned = { number(now) }, false
for _, told_step in ipairs(cjson.decode(ARGV[1])) do
  local step = {
    route = told_step[1], kind = told_step[2], count = told_step[3], lease = told_step[4], code = told_step[5],
    failures = told_step[6], open_ms = told_step[7], successes = told_step[8], rate = told_step[9],
    slot_ms = told_step[10], minimum = told_step[11], quota = told_step[12],
  }
  local stored = redis.call('HGET', KEYS[1], step.route)
  local breaker = stored and cjson.decode(stored) or well()
  local before = breaker.state
  settle(breaker, step)
  local granted, after = kinds[step.kind](breaker, step)
  local document = cjson.encode(after)
  if document ~= stored then put(step.route, document) end
  turned = turned or after.state ~= before or step.kind == 'reset' or step.kind == 'open'
  told[#told + 1] = granted and 1 or 0
  told[#told + 1] = document
end
finish()
if turned then redis.call('PUBLISH', ARGV[4], '') end
return told
