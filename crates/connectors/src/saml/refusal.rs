//! Why what a browser brought from an identity provider is not believed.

use claviger_domain::connector::LoginError;
use claviger_domain::upstream_logout::NoticeError;
use thiserror::Error;

use super::xml::XmlError;

/// One variant a failing check; its name is the word in audit records and logs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No `SAMLResponse`.
    #[error("the form has no SAMLResponse")]
    NoResponse,
    /// No verdict: there are too many to verify.
    #[error("too many answers of identity providers are being verified")]
    Busy,
    /// Not base64.
    #[error("SAMLResponse, SAMLRequest or Signature is not base64")]
    NotBase64,
    /// Not XML that is read.
    #[error("the answer is not read: {0}")]
    Xml(#[from] XmlError),
    /// Another message.
    #[error("the answer is no Response of SAML 2.0")]
    NotAResponse,
    /// The identity provider says that it did not sign anybody in.
    #[error("the identity provider answered {0}")]
    Status(String),
    /// None, two, or one where it does not belong.
    #[error("the answer must have one Assertion, directly below the Response")]
    NotOneAssertion,
    /// An encrypted assertion, identifier or attribute.
    #[error(
        "encrypted assertions, names and attributes are not supported: let the identity provider send them by TLS alone"
    )]
    Encrypted,
    /// A signature where none belongs.
    #[error("a signature stands where none belongs")]
    MisplacedSignature,
    /// Nothing is signed, or not what must be.
    #[error("{0}")]
    Unsigned(&'static str),
    /// A signature of another form than SAML's (SAML Core 5.4).
    #[error("the signature is not as SAML has it: {0}")]
    SignatureForm(&'static str),
    /// A signature that covers something else than what it stands in.
    #[error("the signature does not cover the element it stands in")]
    WrongReference,
    /// An algorithm that is not, or no longer, to be trusted.
    #[error("the signature is by {0}, which is not accepted: use SHA-256 or better, RSA or ECDSA")]
    Algorithm(String),
    /// By no key of the identity provider, or of something else.
    #[error("no certificate of the identity provider verifies the signature")]
    BadSignature,
    /// An answer that nobody asked for.
    #[error(
        "the answer says no InResponseTo: sign-ins must begin here, not at the identity provider"
    )]
    Unsolicited,
    /// An answer to something else.
    #[error("the answer is to another request (InResponseTo)")]
    WrongInResponseTo,
    /// Sent to somebody else.
    #[error("the answer is for another address (Destination {0:?})")]
    WrongDestination(String),
    /// By another identity provider.
    #[error("the answer is by {0:?}, which is not the identity provider")]
    WrongIssuer(String),
    /// Made too long ago, or yet to be made.
    #[error("the {0} was not issued within the last ten minutes (IssueInstant)")]
    IssueInstant(&'static str),
    /// What every assertion must say.
    #[error("the answer does not say {}", .0.words())]
    Missing(Part),
    /// A condition that is not known, and must not be passed over (SAML Core 2.5.1).
    #[error("the assertion has a condition that is not known: {0}")]
    UnknownCondition(String),
    /// Not yet.
    #[error("the assertion is not valid yet")]
    NotYetValid,
    /// No more.
    #[error("the assertion is valid no more")]
    Expired,
    /// For somebody else.
    #[error("the assertion is for another audience")]
    WrongAudience,
    /// Nobody who brings it is confirmed to be its subject.
    #[error("the assertion has no subject confirmation for whoever brings it (bearer)")]
    NoBearer,
    /// For another address.
    #[error("the assertion is for another recipient")]
    WrongRecipient,
    /// By another way than is wanted.
    #[error("the user signed in by {0:?}, which is not among requestedAuthnContexts")]
    WrongAuthnContext(String),
    /// A query without a message.
    #[error("the query has neither SAMLRequest nor SAMLResponse")]
    NoMessage,
    /// A query with two.
    #[error("the query has both SAMLRequest and SAMLResponse")]
    TwoMessages,
    /// A parameter that two readers could read differently.
    #[error("a parameter stands twice in the query")]
    DuplicateParameter,
    /// Not DEFLATE, or half of it.
    #[error("the message is not deflated (SAML Bindings 3.4.4.1)")]
    NotDeflated,
    /// Another message.
    #[error("the message is no {0} of SAML 2.0")]
    NotALogoutMessage(&'static str),
    /// Nobody signs out there.
    #[error(
        "single logout is not offered: it needs signing.keySecretRef, and an address of the identity provider's by HTTP-Redirect"
    )]
    NoSingleLogout,
    /// A user of whom we know no `NameID`.
    #[error(
        "users are known by attributes.userID here, and not by the NameID that a sign-out names"
    )]
    KnownOtherwise,
    /// A `NameID` of another kind than sign-ins have.
    #[error("the NameID is by {0:?} and not by what nameIDFormat asks for")]
    NameIdFormat(String),
    /// A `NameID` of another provider's, or for another service.
    #[error(
        "the NameID is qualified for another provider or service (NameQualifier, SPNameQualifier)"
    )]
    ForeignNameId,
    /// Sessions that cannot be told.
    #[error(
        "it names more sessions than are looked for, or one that is empty or too long (SessionIndex)"
    )]
    SessionIndex,
}

/// What every answer must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Whether it went well.
    Status,
    /// That the assertion is of SAML 2.0.
    Version,
    /// The assertion's ID.
    Id,
    /// Who made it.
    Issuer,
    /// On what conditions it is valid.
    Conditions,
    /// For whom it is.
    Audience,
    /// Whom it is about.
    NameId,
    /// Until when whoever brings it is confirmed.
    End,
    /// That somebody signed in, and when.
    AuthnStatement,
}

impl Part {
    fn reason(self) -> &'static str {
        match self {
            Self::Status => "NoStatus",
            Self::Version => "NoVersion",
            Self::Id => "NoID",
            Self::Issuer => "NoIssuer",
            Self::Conditions => "NoConditions",
            Self::Audience => "NoAudience",
            Self::NameId => "NoNameID",
            Self::End => "NoNotOnOrAfter",
            Self::AuthnStatement => "NoAuthnStatement",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Status => "whether it went well (one StatusCode)",
            Self::Version => "that it is of version 2.0",
            Self::Id => "the ID of its assertion",
            Self::Issuer => "who made its assertion (one Issuer)",
            Self::Conditions => "on what conditions its assertion is valid (one Conditions)",
            Self::Audience => "for whom its assertion is (AudienceRestriction)",
            Self::NameId => "whom its assertion is about (one NameID)",
            Self::End => "until when its subject is confirmed (NotOnOrAfter)",
            Self::AuthnStatement => "when its user signed in (AuthnStatement, AuthnInstant)",
        }
    }
}

impl Refusal {
    /// One word for audit and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoResponse => "NoResponse",
            Self::Busy => "Busy",
            Self::NotBase64 => "NotBase64",
            Self::Xml(error) => match error {
                XmlError::TooLarge => "TooLarge",
                XmlError::NotUtf8 => "NotUtf8",
                XmlError::DocumentType => "DocumentType",
                XmlError::Entity => "Entity",
                XmlError::ProcessingInstruction => "ProcessingInstruction",
                XmlError::Comment => "Comment",
                XmlError::CharacterData => "CharacterData",
                XmlError::TooDeep => "TooDeep",
                XmlError::TooMany => "TooMany",
                XmlError::Trailing => "Trailing",
                XmlError::DuplicateId => "DuplicateID",
                XmlError::Malformed => "Malformed",
            },
            Self::NotAResponse => "NotAResponse",
            Self::Status(_) => "StatusNotSuccess",
            Self::NotOneAssertion => "NotOneAssertion",
            Self::Encrypted => "Encrypted",
            Self::MisplacedSignature => "MisplacedSignature",
            Self::Unsigned(_) => "Unsigned",
            Self::SignatureForm(_) => "SignatureForm",
            Self::WrongReference => "WrongReference",
            Self::Algorithm(_) => "Algorithm",
            Self::BadSignature => "BadSignature",
            Self::Unsolicited => "Unsolicited",
            Self::WrongInResponseTo => "WrongInResponseTo",
            Self::WrongDestination(_) => "WrongDestination",
            Self::WrongIssuer(_) => "WrongIssuer",
            Self::IssueInstant(_) => "IssueInstant",
            Self::Missing(part) => part.reason(),
            Self::UnknownCondition(_) => "UnknownCondition",
            Self::NotYetValid => "NotYetValid",
            Self::Expired => "Expired",
            Self::WrongAudience => "WrongAudience",
            Self::NoBearer => "NoBearer",
            Self::WrongRecipient => "WrongRecipient",
            Self::WrongAuthnContext(_) => "WrongAuthnContext",
            Self::NoMessage => "NoMessage",
            Self::TwoMessages => "TwoMessages",
            Self::DuplicateParameter => "DuplicateParameter",
            Self::NotDeflated => "NotDeflated",
            Self::NotALogoutMessage(_) => "NotALogoutMessage",
            Self::NoSingleLogout => "NoSingleLogout",
            Self::KnownOtherwise => "UnknownUser",
            Self::NameIdFormat(_) => "NameIDFormat",
            Self::ForeignNameId => "ForeignNameID",
            Self::SessionIndex => "SessionIndex",
        }
    }
}

impl From<Refusal> for LoginError {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            // It came by the browser: what it says is not said again.
            Refusal::Status(_) => {
                Self::Refused("the other sign-in did not sign its user in".into())
            }
            Refusal::Busy => Self::Unavailable(refusal.to_string().into()),
            Refusal::Encrypted => Self::Unusable(refusal.to_string()),
            _ => Self::Unverified { reason: refusal.reason(), message: refusal.to_string() },
        }
    }
}

impl From<Refusal> for NoticeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { reason: refusal.reason(), message: refusal.to_string() }
    }
}
