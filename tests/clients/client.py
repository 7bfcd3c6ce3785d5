"""The standard library of Python as a client: urllib, and http.client with a kept connection."""

import http.client
import urllib.request

url = "http://169.254.169.254/urllib?a=b"
print(urllib.request.urlopen(url, timeout=9).read())
link = http.client.HTTPConnection("169.254.169.254", timeout=9)
for n in range(3):
    link.request("POST", f"/kept{n}", iter([b"abc"] * n), encode_chunked=True)
    answer = link.getresponse()
    print(answer.status, answer.read())
