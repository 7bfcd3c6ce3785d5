const http = require('node:http')
const base = 'http://169.254.169.254'
const main = async () => {
  for (const path of ['/fetch', '/missing']) {
    const answer = await fetch(base + path, { headers: { Metadata: 'true' } })
    console.log(answer.status, await answer.text())
  }
  const put = await fetch(base + '/put', { method: 'PUT', body: 'x'.repeat(2 << 20) })
  console.log(put.status, await put.text())
  const all = await Promise.all([...Array(8).keys()].map(async n => (await fetch(`${base}/parallel${n}`)).text()))
  console.log(all.join('\n'))
  const request = http.request(base + '/stream', { method: 'POST' }, async answer => {
    let text = ''
    for await (const piece of answer) text += piece
    console.log(answer.statusCode, text)
  })
  request.write('one')
  request.end('two')
}
main()
