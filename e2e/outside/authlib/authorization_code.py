"""Authorization code with PKCE, userinfo and refresh, through a Flask application."""

from authlib.integrations.base_client import MismatchingStateError, OAuthError

from conversation import ask, done
from web_application import application, provider

visitor = application.test_client()
authorize = visitor.get("/login").location
landed = ask({"browse": authorize})["url"]

# Somebody else's browser has not begun this sign-in.
try:
    application.test_client().get(landed)
    forced = None
except MismatchingStateError as error:
    forced = error.error

tokens = visitor.get(landed).get_json()
with application.app_context():
    userinfo = provider.userinfo(token=tokens)
    refreshed = provider.fetch_access_token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    claims = provider.parse_id_token(refreshed, nonce=None)
    try:
        provider.fetch_access_token(grant_type="refresh_token", refresh_token="clv_rt_forged")
        forged = None
    except OAuthError as error:
        forged = error.error

done(
    {
        "authorize": authorize,
        "forced": forced,
        "claims": tokens["userinfo"],
        "userinfo": userinfo,
        "refreshed": claims,
        "rotated": refreshed["refresh_token"] != tokens["refresh_token"],
        "forged": forged,
    }
)
