# lhls behind Varnish 6.0 or newer: one request to lhls for each playlist state, segment and part, however many viewers there are.
# Growing segments are passed on while they grow. docs/cdn.md says what was measured with this file.
#
#   varnishd -a :8080 -f /etc/varnish/lhls.vcl -s malloc,512m
vcl 4.1;

backend lhls {
    .host = "127.0.0.1";
    .port = "9094";
    # lhls holds requests for a stream to come (?wait) for up to 25 s, and sends nothing while an encoder is away (--reconnect-window, 30 s).
    .first_byte_timeout = 40s;
    .between_bytes_timeout = 40s;
}

sub vcl_recv {
    # For operators, not for viewers.
    if (req.url ~ "^/(metrics|healthz|readyz|status|api/v1)(/|\?|$)") {
        return (synth(404));
    }
    # lhls sets none and reads none; a cookie of another program on the same host would keep everything out of the cache.
    unset req.http.Cookie;
    # Only the first playlist depends on who asks (Vary), and only on whether it is a script, or a player built on ffmpeg. Browsers do not
    # say that it is a script over plain HTTP; there it shows in what their own players do not ask for.
    if (!req.http.Sec-Fetch-Dest && req.http.User-Agent ~ "^Mozilla/" && req.http.Accept-Encoding ~ "gzip" && !req.http.Range) {
        set req.http.Sec-Fetch-Dest = "empty";
    }
    if (req.url !~ "/(playlist|ll)\.m3u8(\?|$)" || req.http.Sec-Fetch-Dest != "empty") {
        unset req.http.Sec-Fetch-Dest;
    }
    if (req.url ~ "/playlist\.m3u8(\?|$)" && req.http.User-Agent ~ "^(Lavf/|mpv |libmpv)") {
        set req.http.User-Agent = "Lavf/";
    } else {
        unset req.http.User-Agent;
    }
}

sub vcl_backend_response {
    # What is stale is not given out while it is fetched anew: a second is long here.
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    if (beresp.status == 200 && bereq.url ~ "\.m3u8(\?|$)" && bereq.url !~ "[?&]_HLS_msn=") {
        # Whole seconds, which is what headers can say, are much for a playlist that changes each second.
        set beresp.ttl = 100ms;
        set beresp.uncacheable = false;
        return (deliver);
    }
    if (beresp.status == 200 && bereq.url ~ "\.ts(\?|$)") {
        # They may be kept longer, but nobody asks for them any more.
        set beresp.ttl = 60s;
        return (deliver);
    }
    if (beresp.status == 503 && beresp.http.Cache-Control ~ "s-maxage") {
        # By itself Varnish keeps no 503, and would let all who waited for it ask one by one.
        set beresp.ttl = 1s;
        set beresp.uncacheable = false;
        return (deliver);
    }
    if (beresp.http.Cache-Control ~ "no-store") {
        # Not kept; but not remembered as uncacheable either, since the same name may be right in the next moment.
        set beresp.ttl = 0s;
        return (deliver);
    }
}
