-- Each thread is one visitor with a cookie of its own. With SESSIONS set, each request comes from one of that many.
local threads = 0

function setup(thread)
  thread:set('number', threads)
  threads = threads + 1
end

function init()
  local cookies = {}
  for cookie in (os.getenv('COOKIES') or ''):gmatch('[^\n]+') do table.insert(cookies, cookie) end
  if #cookies > 0 then wrk.headers['Cookie'] = cookies[number % #cookies + 1] end
  math.randomseed(number + 1)
end

local sessions = tonumber(os.getenv('SESSIONS') or '')
if sessions then
  function request()
    return ('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: sid=%024d\r\n\r\n'):format(math.random(sessions))
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(('\n{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"failed":%d}\n'):format(
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
