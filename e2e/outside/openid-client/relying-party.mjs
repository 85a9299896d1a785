// What every script begins with: the issuer's metadata, and a sign-in by authorization code in the story's browser.
import * as client from 'openid-client'
import { ask, settings } from './conversation.mjs'

// Tokens come over TLS, so the library need not look at signatures; here it is to, with the issuer's own keys.
export async function discover(authentication = client.ClientSecretBasic(settings.client_secret), options) {
  const issuer = new URL(settings.issuer)
  const config = await client.discovery(issuer, settings.client_id, {}, authentication, options)
  client.enableNonRepudiationChecks(config)
  return config
}

// An authorization request with PKCE, state and nonce, and what its answer must be checked against. `build` makes it a URL.
export async function attempt(config, parameters = {}, build = client.buildAuthorizationUrl) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier()
  const checks = {
    pkceCodeVerifier,
    expectedState: client.randomState(),
    expectedNonce: client.randomNonce(),
    idTokenExpected: true,
  }
  const url = await build(config, {
    redirect_uri: settings.redirect_uri,
    scope: settings.scope,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
    state: checks.expectedState,
    nonce: checks.expectedNonce,
    ...parameters,
  })
  return { url, checks }
}

// The same, up to where the browser ends at the application.
export async function browse(config, parameters, build) {
  const { url, checks } = await attempt(config, parameters, build)
  const { url: landed } = await ask({ browse: url.href })
  return { url, landed: new URL(landed), checks }
}
