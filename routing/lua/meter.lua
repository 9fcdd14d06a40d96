-- What all processes together use of allowances. One hash for each: `b` and `e` begin and end of the period in ms, `u` used by
-- processes that left, `l` used by the ledger's word (-1 while it was not heard), and for each process `p:<name>` "spent reserved free".
-- KEYS[1] hash of the processes: their last word in ms, and its number; then the counters.
-- ARGV[1] the process, or empty; ARGV[2] the number of its word; ARGV[3] JSON list of a list for each counter: amount, kind (0
-- without end, 1 a window, 2 of the calendar), begin of the period (of a window its length), its end, begin and end of the period
-- that the process speaks of, spent, reserved, free, asked for, least that is of use, welcome beyond that, the ledger's word (-1
-- for none), 1 if it is needed, 1 when the process leaves the counter, and the moment since which all living processes must have
-- spoken for the ledger's word to be whole (0: it is not said). ARGV[4] channel on which others are asked to give
-- back; ARGV[5] the moment in ms, for tests; empty is now; ARGV[6] and ARGV[7] ms of silence: after which what a process
-- reserved is free again, and after which nobody waits for it to give back.
-- Returns the moment, 1 when the word came too late or 2 when the process was not known any more (nothing is done then), the number of processes, then for each counter: status (0 granted, 1
-- refused, 2 refused until others gave back, 3 the ledger is needed), granted, used, held, begin, end, 1 if there is no more to spare.

local DEAD_MS, SILENT_MS, SHARES = tonumber(ARGV[6]), tonumber(ARGV[7]), 8
local TURNED_BACK_MS = 1000 -- by more than that a moment lies ahead only if the clock was set back
local KEPT_MS = { [0] = 24 * 3600 * 1000, [1] = 60 * 1000, [2] = 40 * 24 * 3600 * 1000 }

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[5] ~= '' then now = tonumber(ARGV[5]) end
local me, number_of_word = ARGV[1], tonumber(ARGV[2])

local function number(value)
  return string.format('%.0f', value)
end

local beats, processes, known = {}, 0, false
local stored = redis.call('HGETALL', KEYS[1])
for place = 1, #stored, 2 do
  local beat, word = string.match(stored[place + 1], '^(%d+) (%d+)$')
  beat, word = tonumber(beat), tonumber(word)
  if stored[place] == me then
    if word >= number_of_word then return { number(now), 1, 0 } end
    known = true
  end
  if beat > now + TURNED_BACK_MS then
    beat = now
    redis.call('HSET', KEYS[1], stored[place], number(now) .. ' ' .. number(word))
  end
  if now - beat > DEAD_MS then
    redis.call('HDEL', KEYS[1], stored[place])
  else
    beats[stored[place]] = beat
    if stored[place] ~= me then processes = processes + 1 end
  end
end
if me ~= '' then
  redis.call('HSET', KEYS[1], me, number(now) .. ' ' .. number(number_of_word))
  redis.call('PEXPIRE', KEYS[1], KEPT_MS[0])
  beats[me] = now
  processes = processes + 1
end

if me ~= '' and number_of_word > 1 and not known then
  -- The store was emptied under a process that counts. What the others hold is not known here before they have told it.
  redis.call('PUBLISH', ARGV[4], '')
  return { number(now), 2, processes }
end

local function have_all_spoken_since(moment)
  if moment == 0 then return false end
  for _, beat in pairs(beats) do
    if beat < moment then return false end
  end
  return true
end

local answer = { number(now), 0, processes }

local function say(...)
  for _, value in ipairs({ ... }) do answer[#answer + 1] = number(value) end
end

local function read(key)
  local found, all = { u = 0, l = 0, of = {} }, redis.call('HGETALL', key)
  for place = 1, #all, 2 do
    local name, value = all[place], all[place + 1]
    if string.sub(name, 1, 2) == 'p:' then
      local spent, reserved, free = string.match(value, '^(%d+) (%d+) (%d+)$')
      found.of[string.sub(name, 3)] = { tonumber(spent), tonumber(reserved), tonumber(free) }
    else
      found[name] = tonumber(value)
    end
  end
  return found
end

for place, asked in ipairs(cjson.decode(ARGV[3])) do
  local amount, kind, begin, ends, period, period_ends = asked[1], asked[2], asked[3], asked[4], asked[5], asked[6]
  local spent, reserved, free, ask, least, wish = asked[7], asked[8], asked[9], asked[10], asked[11], asked[12]
  local ledger, ledger_needed, leaves, whole_since = asked[13], asked[14] == 1, asked[15] == 1, asked[16]
  local key = KEYS[place + 1]
  local counter = read(key)
  local begins_anew = false
  if counter.b and kind == 1 and (now >= counter.e or counter.e > now + begin + TURNED_BACK_MS) then
    redis.call('DEL', key)
    counter = { u = 0, l = 0, of = {} }
  elseif counter.b and kind == 2 and begin > counter.b and begin <= now then
    -- What ended goes on with the next period; what did not was counted by another calendar, and the ledger knows better.
    begins_anew = counter.e <= begin
    redis.call('DEL', key)
    counter = { u = 0, l = 0, of = {} }
  end
  if not counter.b then
    if kind == 0 then
      counter.b, counter.e = 0, 0
    elseif kind == 1 then
      if period >= 0 and period_ends > now and period_ends <= now + begin + TURNED_BACK_MS then
        counter.b, counter.e = period, period_ends
      elseif ask > 0 then
        counter.b, counter.e = now, now + begin
      end
    else
      counter.b, counter.e = begin, ends
      if ledger_needed and not begins_anew then counter.l = -1 end
    end
  end
  if not counter.b then
    say(0, 0, 0, 0, -1, 0, 1)
  else
    if ledger >= 0 and kind == 2 and begin == counter.b then counter.l = math.max(counter.l, ledger) end
    if period ~= counter.b then spent, reserved, free = 0, 0, 0 end
    local used, held, others_free = counter.u, 0, false
    for name, of in pairs(counter.of) do
      if name ~= me then
        used = used + of[1]
        if beats[name] then
          held = held + of[2] + of[3]
          if of[3] > 0 and now - beats[name] <= SILENT_MS then others_free = true end
        end
      end
    end
    used = used + spent
    if ledger > used and begin == counter.b and have_all_spoken_since(whole_since) then
      -- Whoever spent the rest is gone and will not tell it: from here on what the others spend comes on top.
      counter.u = counter.u + ledger - used
      used = ledger
    end
    used, held = math.max(used, counter.l), held + reserved + free
    local left, granted, status, scarce = amount - used - held, 0, 0, 0
    if ledger_needed and counter.l < 0 then
      status, scarce = 3, 1
    elseif ask > 0 then
      if left >= ask then
        local extra = math.max(0, math.min(wish, math.floor((left - ask) / (SHARES * processes))))
        granted = ask + extra
        if extra < least then
          granted, scarce = ask, 1
        end
      else
        scarce = 1
        granted = left >= least and left or 0
        status = others_free and 2 or 1
      end
    elseif left < SHARES * processes then
      scarce = 1
    end
    if me ~= '' then
      if leaves then
        -- What it told last and not what it says now, which is the same: so that to hear it twice counts it once.
        counter.u = counter.u + (counter.of[me] and counter.of[me][1] or 0)
        redis.call('HDEL', key, 'p:' .. me)
      else
        redis.call('HSET', key, 'p:' .. me, number(spent) .. ' ' .. number(reserved) .. ' ' .. number(free + granted))
      end
    end
    redis.call('HSET', key, 'b', number(counter.b), 'e', number(counter.e), 'u', number(counter.u), 'l', number(counter.l))
    redis.call('PEXPIREAT', key, number(math.max(counter.e, now) + KEPT_MS[kind]))
    if status == 2 then redis.call('PUBLISH', ARGV[4], key) end
    say(status, granted, used, held + granted, counter.b, counter.e, scarce)
  end
end
return answer
