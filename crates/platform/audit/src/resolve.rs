//! What proofs and roots are made of: the hashes in the published tiles.

use creto_tlog::{Hash, ProofPlan, TILE_WIDTH, Tile, TileSet};
use creto_types::OrgId;

use crate::AuditError;
use crate::error::{corrupt, tile_fault};
use crate::head::HASHER;
use crate::service::Shared;

impl Shared {
    /// The hashes of a proof, from the tiles that were published with `size` leaves.
    /// A size between two checkpoints has no tiles of its own.
    pub(crate) async fn resolve(
        &self,
        org: OrgId,
        plan: &ProofPlan,
        size: u64,
    ) -> Result<Vec<Hash>, AuditError> {
        let wanted: Vec<Tile> = plan
            .tiles()
            .into_iter()
            .map(|tile| tile.within(size).unwrap_or(tile))
            .collect();
        let paths = wanted.iter().map(ToString::to_string).collect();
        let found = self.stores.tiles.get_all(org, paths).await?;
        let mut tiles = TileSet::new();
        for (tile, found) in wanted.into_iter().zip(found) {
            let bytes = match found {
                Some(bytes) => bytes,
                None => self.full_tile(org, tile).await?,
            };
            tiles
                .insert(tile, &bytes)
                .map_err(|e| tile_fault(org, &e))?;
        }
        plan.resolve(HASHER, &tiles)
            .map_err(|e| tile_fault(org, &e))
    }

    /// The proof from `from` to `to` leaves, out of `size` that are published.
    pub(crate) async fn consistency(
        &self,
        org: OrgId,
        from: u64,
        to: u64,
        size: u64,
    ) -> Result<Vec<Hash>, AuditError> {
        let plan = ProofPlan::consistency(from, to).map_err(|_| AuditError::UnknownSize {
            org,
            from,
            to,
            size,
        })?;
        self.resolve(org, &plan, size).await
    }

    pub(crate) async fn root_at(&self, org: OrgId, at: u64, size: u64) -> Result<Hash, AuditError> {
        let root = self.resolve(org, &ProofPlan::root(at), size).await?;
        Ok(root.first().copied().unwrap_or_else(|| HASHER.empty()))
    }

    /// The beginning of a full tile, for a partial one that may have made way for it.
    async fn full_tile(&self, org: OrgId, tile: Tile) -> Result<Vec<u8>, AuditError> {
        let full = Tile::new(tile.level(), tile.index(), TILE_WIDTH);
        if let Some(full) = full
            && let Some(mut bytes) = self.stores.tiles.get(org, &full.to_string()).await?
        {
            let hashes = usize::try_from(tile.width()).unwrap_or(usize::MAX);
            bytes.truncate(hashes.saturating_mul(Hash::LEN));
            return Ok(bytes);
        }
        Err(corrupt(org, tile, "the file is missing"))
    }
}
