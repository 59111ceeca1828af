//! Every return code of the protocol with its HTTP status: the one table.

use std::fmt;

macro_rules! return_codes {
    ($($status:literal { $($name:ident $(as $wire:literal)?),+ $(,)? })+) => {
        /// The machine name of an application error, sent as `rc`.
        ///
        /// A few names end in a dot on the wire, because that is what clients see today.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the name is the protocol's own; each refusal carries its meaning")]
        pub enum ReturnCode { $($($name),+),+ }

        impl ReturnCode {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$($(Self::$name),+),+];

            /// The HTTP status that the code is sent with.
            pub const fn status(self) -> u16 {
                match self { $($(Self::$name)|+ => $status),+ }
            }

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => return_codes!(@wire $name $($wire)?)),+),+ }
            }
        }
    };
    (@wire $name:ident) => { stringify!($name) };
    (@wire $name:ident $wire:literal) => { $wire };
}

return_codes! {
    400 {
        // Asking.
        MissingPrompt, CorruptPrompt, InvalidPromptSize, InvalidSize, TooManySteps,
        UnsupportedSampler, UnsupportedModel, ControlNetUnsupported, ControlNetSourceMissing,
        ControlNetInpaintingMismatch, ControlNetMismatch,
        ControlNetWorkflowMismatch as "ControlNetMismatch.",
        ControlNetInvalidPayload, HiResMismatch, HiResFixMismatch, Img2ImgMismatch,
        TilingMismatch, SourceMaskUnnecessary, SourceImageRequiredForModel, UnexpectedModelName,
        ImageValidationFailed, SourceImageResolutionExceeded, SourceImageSizeExceeded,
        SourceImageUrlInvalid, SourceImageUnreadable, InpaintingMissingMask, TooManyUpscalers,
        TooManyLoras, BadLoraVersion, TooManyTIs, BadCFGDecimals, BadCFGNumber,
        InvalidTransparencyModel, InvalidTransparencyImg2Img, InvalidTransparencyCN,
        InvalidRemix, InvalidRemixModel,
        InvalidExtraSourceImages as "InvalidExtraSourceImages.",
        TooManyExtraSourceImages as "TooManyExtraSourceImages.",
        MoreThanMinExtraSourceImage as "MoreThanMinExtraSourceImage.",
        InvalidExtraTexts as "InvalidExtraTexts.",
        MissingExtraTexts as "MissingExtraTexts.",
        BetaComparisonFault, SpecialMissingUsername, SpecialMissingPayload,
        SpecialFieldNeedsSpecialUser, TokenOverflow, MissingFullSamplerOrder,
        TooManyStopSequences, ExcessiveStopSequence, OnlyServiceAccountProxy, RequiresTrust,
        SharedKeyInvalid, MaintenanceMode, StyleMismatch, NulByteInPayload, NoValidWorkers,
        BadRequest,
        // Rating.
        ProcGenNotFound, InvalidAestheticAttempt, AestheticsNotCompleted, AestheticsNotPublic,
        AestheticsDuplicate, AestheticsMissing, AestheticsSolo, AestheticsConfused,
        AestheticsAlreadyExist, AestheticsServerRejected, AestheticsServerError,
        AestheticsServerDown, AestheticsServerTimeout,
        // Workers.
        PolymorphicNameConflict, ProfaneWorkerName, ProfaneBridgeAgent, InvalidPriorityUsername,
        DuplicateGen, AbortedGen,
        // The community.
        UserNotDeleted, StylePromptMissingVars, StyleGetMistmatch, ExampleURLAlreadyInUse,
        KudosValidationError, KudosTransferToAnon, KudosTransferToSelf, KudosTransferFromAnon,
        KudosTransferNotEnough, NegativeKudosTransfer, InvalidKudosTransferAmount,
        InvalidTargetUsername, TooFastKudosTransfers, IdempotencyKeyConflict,
        TargetAccountFlagged, SourceAccountFlagged, FaultWhenKudosReceiving,
        FaultWhenKudosSending, EducationCannotSendKudos, InvalidAwardUsername, KudosAwardToAnon,
        DeletedUserTransfer as "DeletedUser", SharedKeyExpiredNamed as "SharedKeyExpired",
        SharedKeyEmptyNamed as "SharedKeyEmpty",
        Profanity, ProfaneWorkerInfo, ProfaneUserName, ProfaneUserContact, ProfaneAdminComment,
        ProfaneTeamName, ProfaneTeamInfo, TooLong, TooLongWorkerName, TooLongUserName,
        NameAlreadyExists, WorkerNameAlreadyExists, TeamNameAlreadyExists, NoValidActions,
        NoWorkerModSelected, NoUserModSelected, NoHordeModSelected, NoTeamModSelected,
        NoFilterModSelected, NoSharedKeyModSelected,
    }
    401 { InvalidAPIKey }
    403 {
        BetaAnonForbidden, SpecialModelNeedsSpecialUser, SpecialForbidden, KudosUpfront,
        SharedKeyEmpty, SharedKeyExpired, SharedKeyAssignedStyles, SharedKeyInsufficientKudos,
        TimeoutIP, UntrustedUnsafeIP, BannedClientAgent, BadClientAgent, DeletedUser, Forbidden,
        AnonForbiddenWorker, WorkerFlaggedMaintenance, WorkerMaintenance, WrongCredentials,
        WorkerInviteOnly, TooManyWorkers, TooManyWorkersTrusted, TooManySameIPs, UnsafeIP,
        TooManyNewIPs, NotAdmin, NotModerator, NotOwner, NotPrivileged, NotAllowedAwards,
        NotTrusted, UntrustedTeamCreation, NonServiceForbidden, AnonForbidden,
        AnonForbiddenUserMod, AnonForbiddenUser, NotUserOrMod, CannotDeleteMod,
        CannotWipeActiveUser, StylesAnonForbidden, StylesRequiresCustomizer,
        TooManyStyleExamples, MessagesOnlyOwnWorkers,
    }
    404 {
        StyleNotFound, StyleExampleNotFound, CollectionNotFound, WorkerNotFound, RequestNotFound,
        InvalidJobID, UserNotFound, TeamNotFound, FilterNotFound, SharedKeyNotFound,
        WorkermessageNotFound,
    }
    410 { RequestExpired }
    423 { Locked }
    429 { TooManyPrompts }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_status_at_least() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ReturnCode::ALL {
            assert!(
                seen.insert((code.name(), code.status())),
                "{code} is in the table twice"
            );
            assert!((400..500).contains(&code.status()), "{code}");
        }
    }

    #[test]
    fn dotted_names_stay_dotted() {
        assert_eq!(ReturnCode::MissingExtraTexts.name(), "MissingExtraTexts.");
        assert_eq!(
            ReturnCode::ControlNetWorkflowMismatch.name(),
            "ControlNetMismatch."
        );
    }
}
